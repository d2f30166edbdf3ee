//! Lists a page at a time, and of names that begin alike: more than Confluent REST Proxy offers, whose lists are
//! whole. Without `page_size` they are whole here too.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::resource::ListMetadata;
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::http::own_url::Segment;

/// Most resources of a page.
const MOST: u64 = 10_000;
/// Longest token that is looked at.
const LONGEST_TOKEN: usize = 48 << 10;

/// Which part of a list is wanted.
#[derive(Debug, Default)]
pub(super) struct PageQuery {
    size: Option<usize>,
    /// What the last page ended with.
    after: Option<String>,
    prefix: Option<String>,
    /// The other parameters of the request, which hold for the next page too.
    others: String,
}

/// A part of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) metadata: ListMetadata,
    pub(super) data: Vec<T>,
}

impl PageQuery {
    /// Takes `page_size`, `page_token` and `prefix`, before what else the request may have is taken.
    ///
    /// # Errors
    ///
    /// 400 that names the parameter.
    pub(super) fn take(query: &mut Query) -> Result<Self, ApiError> {
        let size = query.take_number("page_size", 1..=MOST)?;
        let token = query.take("page_token")?;
        let after = token.as_deref().map(read_token).transpose()?;
        let prefix = query.take("prefix")?.filter(|prefix| !prefix.is_empty());
        Ok(Self {
            size: size.and_then(|size| usize::try_from(size).ok()),
            after,
            prefix,
            others: query.without("prefix"),
        })
    }

    /// The part of `all` that is wanted, by names. `all` is in their order, and `url` is where the list is.
    pub(super) fn of_names<T>(
        self,
        url: String,
        mut all: Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Page<T> {
        if let Some(prefix) = &self.prefix {
            all.retain(|one| name(one).starts_with(prefix.as_str()));
        }
        if let Some(after) = &self.after {
            all.retain(|one| name(one) > after.as_str());
        }
        self.cut(url, all, |one| name(one).to_owned())
    }

    /// The same by numbers or other keys, of which there are no prefixes.
    ///
    /// # Errors
    ///
    /// 400 for a token that is not of this list.
    pub(super) fn of_keys<T, K: Ord + Display + FromStr>(
        self,
        url: String,
        mut all: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, ApiError> {
        if let Some(after) = &self.after {
            let after = K::from_str(after).map_err(|_| not_of_list(after))?;
            all.retain(|one| key(one) > after);
        }
        Ok(self.cut(url, all, |one| key(one).to_string()))
    }

    fn cut<T>(self, url: String, mut all: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let next = match self.size {
            Some(size) if all.len() > size => {
                all.truncate(size);
                all.last().map(|last| {
                    let token = URL_SAFE_NO_PAD.encode(key(last));
                    let mut next = format!("{url}?page_size={size}&page_token={token}");
                    if let Some(prefix) = &self.prefix {
                        next.push_str(&format!("&prefix={}", Segment(prefix)));
                    }
                    next.push_str(&self.others);
                    next
                })
            }
            Some(_) | None => None,
        };
        Page {
            metadata: ListMetadata { url, next },
            data: all,
        }
    }
}

fn read_token(token: &str) -> Result<String, ApiError> {
    let is_short = token.len() <= LONGEST_TOKEN;
    let bytes = is_short
        .then(|| URL_SAFE_NO_PAD.decode(token).ok())
        .flatten();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| not_of_list(token))
}

fn not_of_list(token: &str) -> ApiError {
    unexpected(
        "page_token",
        token,
        "the token of the page before, from its next link",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> PageQuery {
        PageQuery::take(&mut Query::parse(query).unwrap()).unwrap()
    }

    fn names(query: &str) -> (Vec<&'static str>, Option<String>) {
        let all = vec!["a1", "a2", "a3", "b1"];
        let page = page(query).of_names("http://gw/list".to_owned(), all, |name| name);
        (page.data, page.metadata.next)
    }

    #[test]
    fn a_list_is_whole_unless_a_page_is_asked_for() {
        assert_eq!(names(""), (vec!["a1", "a2", "a3", "b1"], None));
        assert_eq!(names("prefix=a"), (vec!["a1", "a2", "a3"], None));
        assert_eq!(names("page_size=4").1, None);
    }

    #[test]
    fn the_next_link_leads_through_the_whole_list() {
        let mut seen = Vec::new();
        let mut query = "page_size=2&prefix=a".to_owned();
        loop {
            let (data, next) = names(&query);
            seen.extend(data);
            let Some(next) = next else { break };
            let (url, rest) = next.split_once('?').unwrap();
            assert_eq!(url, "http://gw/list");
            query = rest.to_owned();
        }
        assert_eq!(seen, ["a1", "a2", "a3"]);
    }

    #[test]
    fn the_next_page_is_asked_for_with_the_same_parameters() {
        let (_, next) = names("page_size=1&include_authorized_operations=true");
        let next = next.unwrap();
        assert!(
            next.ends_with("&include_authorized_operations=true"),
            "{next}"
        );
    }

    #[test]
    fn numbers_are_paged_in_their_own_order() {
        let mut query = "page_size=5".to_owned();
        let mut seen = Vec::new();
        loop {
            let all: Vec<i32> = (0..12).collect();
            let found = page(&query)
                .of_keys("u".to_owned(), all, |one| *one)
                .unwrap();
            seen.extend(found.data);
            let Some(next) = found.metadata.next else {
                break;
            };
            query = next.split_once('?').unwrap().1.to_owned();
        }
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_token_is_named() {
        let take = |query: &str| PageQuery::take(&mut Query::parse(query).unwrap());
        for (query, field) in [
            ("page_size=0", "page_size"),
            ("page_size=x", "page_size"),
            ("page_size=100001", "page_size"),
            ("page_token=%20", "page_token"),
        ] {
            let error = take(query).unwrap_err();
            assert_eq!(error.into_body().field.as_deref(), Some(field), "{query}");
        }
        let of_another = take("page_token=YWJj").unwrap();
        let error = of_another.of_keys("u".to_owned(), vec![1], |one: &i32| *one);
        assert_eq!(
            error.unwrap_err().into_body().field.as_deref(),
            Some("page_token")
        );
    }
}
