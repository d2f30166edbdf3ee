//! Tables of errors as responses of the document: a status in each row, and what it means there.

use std::collections::BTreeMap;

use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

/// The rows as responses whose bodies are errors of these media types. Of two rows for a status the last one counts.
pub(in crate::api) fn documented<'a>(
    types: &[&str],
    rows: impl IntoIterator<Item = &'a (&'a str, &'a str)>,
) -> BTreeMap<String, RefOr<Response>> {
    rows.into_iter()
        .map(|(status, description)| {
            let response = ResponseBuilder::new().description(*description);
            let response = types.iter().fold(response, |response, media| {
                response.content(*media, Content::new(Some(Ref::from_schema_name("Error"))))
            });
            ((*status).to_owned(), RefOr::T(response.build()))
        })
        .collect()
}
