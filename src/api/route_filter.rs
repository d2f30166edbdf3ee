//! The filter of routes, which says what is offered (`http.allow`, `http.block`), as the endpoint lists of
//! Confluent REST Proxy do it: a GET that is switched off is a 404, any other method a 405.

use std::sync::Arc;

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::routes::{Row, rows};
use crate::gateway::Gateway;
use crate::glob::Glob;
use crate::http::error::ApiError;

/// The two lists.
#[derive(Debug)]
pub struct RouteFilter {
    allow: Vec<Route>,
    block: Vec<Route>,
}

/// A pattern of routes: `POST /topics/*`.
#[derive(Debug)]
struct Route {
    method: Glob,
    path: Glob,
}

impl Route {
    /// From the form in which settings keep it.
    fn new(text: &str) -> Self {
        let (method, path) = text.split_once(' ').unwrap_or(("*", text));
        Self {
            method: Glob::new(method),
            path: Glob::new(path),
        }
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.matches(method.as_str()) && self.path.matches(path)
    }
}

impl RouteFilter {
    /// By the settings `http.allow` and `http.block`.
    pub fn new(allow: &[String], block: &[String]) -> Self {
        let routes = |list: &[String]| list.iter().map(|text| Route::new(text)).collect();
        Self {
            allow: routes(allow),
            block: routes(block),
        }
    }

    /// Whether the route is there for callers. What is blocked is not, whether allowed or not.
    pub fn has(&self, method: &Method, path: &str) -> bool {
        let named = |list: &[Route]| list.iter().any(|route| route.matches(method, path));
        (self.allow.is_empty() || named(&self.allow)) && !named(&self.block)
    }

    /// What answers in the place of a route that is switched off: nobody is asked who they are.
    /// `None` for one that is offered.
    pub(super) fn instead_of(&self, row: &Row, all: &[Row]) -> Option<MethodRouter<Gateway>> {
        if self.has(&row.method, row.path) {
            return None;
        }
        let filter = MethodFilter::try_from(row.method.clone()).ok()?;
        let error = self.refusal(row, all);
        let answer = Arc::new(error);
        Some(on(filter, move || {
            let answer = Arc::clone(&answer);
            async move { ApiError::clone(&answer) }
        }))
    }

    fn refusal(&self, row: &Row, all: &[Row]) -> ApiError {
        let (method, path) = (&row.method, row.path);
        let message = format!("{method} {path} is switched off here (http.allow, http.block)");
        if *method == Method::GET {
            return ApiError::plain(StatusCode::NOT_FOUND, message);
        }
        let left = all
            .iter()
            .filter(|other| other.path == path && self.has(&other.method, path))
            .map(|other| other.method.as_str());
        let left = left.collect::<Vec<_>>().join(", ");
        let error = ApiError::plain(StatusCode::METHOD_NOT_ALLOWED, message);
        match HeaderValue::from_str(&left) {
            Ok(left) => error.header(header::ALLOW, left),
            Err(_) => error,
        }
    }
}

/// Whether a pattern of the settings names a route that there is.
pub fn names_a_route(pattern: &str) -> bool {
    let pattern = Route::new(pattern);
    rows()
        .iter()
        .any(|row| pattern.matches(&row.method, row.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(allow: &[&str], block: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let filter = RouteFilter::new(&owned(allow), &owned(block));
        rows()
            .iter()
            .filter(|row| filter.has(&row.method, row.path))
            .map(|row| format!("{} {}", row.method, row.path))
            .collect()
    }

    #[test]
    fn without_lists_every_route_is_there() {
        assert_eq!(offered(&[], &[]).len(), rows().len());
    }

    #[test]
    fn what_is_allowed_and_not_blocked_is_there() {
        let all = offered(&[], &[]);
        let reading = offered(&["GET *"], &["* /docs*", "* /"]);
        assert!(reading.iter().all(|route| route.starts_with("GET /")));
        assert!(reading.contains(&"GET /topics".to_owned()));
        assert!(!reading.contains(&"GET /docs".to_owned()));
        let blocked = offered(&[], &["POST /topics/{topic}/records"]);
        assert_eq!(blocked.len(), all.len() - 1);
        assert!(blocked.contains(&"GET /topics/{topic}/records".to_owned()));
        assert_eq!(offered(&["* /brokers"], &["* /brokers"]), [""; 0]);
    }

    #[test]
    fn a_pattern_must_name_a_route() {
        assert!(names_a_route("* /topics/*"));
        assert!(!names_a_route("DELETE /brokers"));
        assert!(!names_a_route("* /topic"));
    }
}
