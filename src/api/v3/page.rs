//! Lists a page at a time, and of names that begin alike: more than Confluent REST Proxy offers, whose lists are
//! whole. Without `page_size` they are whole here too, up to a bound.

use std::fmt::{self, Display};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::resource::ListMetadata;
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::http::own_url::Segment;
use crate::record::TopicPartition;

/// Most resources of a page, and of a list where no page is asked for.
const MOST: usize = 10_000;
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

/// What a list takes to be told a page at a time
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the parameters are taken by hand; this describes them"
)]
pub(super) struct PageParams {
    /// Most entries of the answer, 1 to 10000. Without it all, up to the same bound. Not in the reference
    #[param(minimum = 1, maximum = 10000)]
    page_size: Option<u32>,
    /// Where the page before ended, from its `next` link. Not in the reference
    page_token: Option<String>,
}

/// What a list of names takes as well
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the parameters are taken by hand; this describes them"
)]
pub(super) struct PrefixParam {
    /// Only those whose names begin so. Not in the reference
    prefix: Option<String>,
}

/// The key of what two parts name together, in the order of the first one: a topic and a partition, say. The
/// second has no slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair<A, B>(pub(super) A, pub(super) B);

impl Pair<String, i32> {
    /// That of a partition.
    pub(super) fn of(partition: &TopicPartition) -> Self {
        Self(partition.topic.to_string(), partition.partition)
    }
}

impl<A: Display, B: Display> Display for Pair<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl<A: FromStr, B: FromStr> FromStr for Pair<A, B> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, second) = text.rsplit_once('/').ok_or(())?;
        match (first.parse(), second.parse()) {
            (Ok(first), Ok(second)) => Ok(Self(first, second)),
            _ => Err(()),
        }
    }
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
        let size = query.take_number("page_size", 1..=MOST as u64)?;
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

    /// Whether a list of so many is told in parts.
    pub(super) fn is_part_of(&self, many: usize) -> bool {
        self.size.is_some() || self.after.is_some() || many > MOST
    }

    /// The same with another bound where no page is asked for: of what costs much to tell.
    pub(super) fn at_most(mut self, most: usize) -> Self {
        self.size = self.size.or(Some(most));
        self
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

    /// The same of what have names, too: of those alone that begin with the prefix.
    ///
    /// # Errors
    ///
    /// As [`PageQuery::of_keys`].
    pub(super) fn of_named_keys<T, K: Ord + Display + FromStr>(
        self,
        url: String,
        mut all: Vec<T>,
        name: impl Fn(&T) -> &str,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, ApiError> {
        if let Some(prefix) = &self.prefix {
            all.retain(|one| name(one).starts_with(prefix.as_str()));
        }
        self.of_keys(url, all, key)
    }

    /// The same by topic and partition; the prefix is that of topics.
    ///
    /// # Errors
    ///
    /// As [`PageQuery::of_keys`].
    pub(super) fn of_partitions<T>(
        self,
        url: String,
        all: Vec<T>,
        at: impl Fn(&T) -> &TopicPartition,
    ) -> Result<Page<T>, ApiError> {
        self.of_named_keys(url, all, |one| &at(one).topic, |one| Pair::of(at(one)))
    }

    fn cut<T>(self, url: String, mut all: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let size = self.size.unwrap_or(MOST);
        let next = if all.len() > size {
            all.truncate(size);
            all.last().map(|last| {
                let token = URL_SAFE_NO_PAD.encode(key(last));
                // The parameters of a search are among the others.
                let path = url.split('?').next().unwrap_or_default();
                let mut next = format!("{path}?page_size={size}&page_token={token}");
                if let Some(prefix) = &self.prefix {
                    next.push_str(&format!("&prefix={}", Segment(prefix)));
                }
                next.push_str(&self.others);
                next
            })
        } else {
            None
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
    fn a_list_without_pages_has_a_bound_and_says_where_it_goes_on() {
        let all: Vec<usize> = (0..10_001).collect();
        let first = page("").of_keys("u".to_owned(), all, |one| *one).unwrap();
        assert_eq!(first.data.len(), 10_000);
        let next = first.metadata.next.unwrap();
        assert!(next.starts_with("u?page_size=10000&page_token="), "{next}");
        let few = page("").at_most(2);
        let first = few.of_keys("u".to_owned(), vec![1, 2, 3], |one| *one);
        assert_eq!(first.unwrap().data, [1, 2]);
    }

    #[test]
    fn pairs_are_paged_by_their_first_part_and_then_their_second() {
        let all = vec![("a", 2), ("a", 10), ("b", 1)];
        let key = |(topic, partition): &(&str, i32)| Pair((*topic).to_owned(), *partition);
        let search = "u?topic=x".to_owned();
        let first = page("page_size=1&topic=x").of_keys(search, all.clone(), key);
        let next = first.unwrap().metadata.next.unwrap();
        assert!(next.starts_with("u?page_size=1&page_token="), "{next}");
        assert!(next.ends_with("&topic=x"), "{next}");
        let query = next.split_once('?').unwrap().1;
        let second = page(query).of_keys("u".to_owned(), all, key).unwrap();
        assert_eq!(second.data, [("a", 10)]);
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
