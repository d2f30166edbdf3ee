//! The responses that are common to all operations, before a handler has a say: added to the document here,
//! once, so that no handler needs to repeat it. What a handler says of the same status stands first.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type,
};

use crate::api::routes::Access;

const NOT_LET_IN: &str = "The request comes from a page of another origin, which is not in `http.cors.origins`; or a \
     permission is missing, which the message names";
const OTHER_ORIGIN: &str =
    "The request comes from a page of another origin, which is not in `http.cors.origins`";
const UNAUTHENTICATED: &str = "No credentials, or some that are not valid (with `auth.mode = \"jwt\"` or \
     `\"users\"`); `WWW-Authenticate` says which";
const MISDIRECTED: &str = "`Host` is not one that is served: without authentication only addresses, names that \
     nobody can register, the host of `advertised_url` and those in `http.allowed_hosts` are";
const TOO_MANY: &str = "More requests or bytes a second than `limits` allow: try again after \
     `Retry-After` seconds";

/// The headers of a 429.
const RATES: [(&str, &str); 4] = [
    ("Retry-After", "Seconds until there is room for the request"),
    ("RateLimit-Limit", "Requests, or bytes of bodies, a second"),
    ("RateLimit-Remaining", "What is left of them: 0"),
    ("RateLimit-Reset", "Seconds until there is room again"),
];

/// `item` with what stands before every handler of this access.
pub(in crate::api) fn described(mut item: PathItem, access: Access) -> PathItem {
    let operations = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    for operation in operations.into_iter().flatten() {
        if access == Access::Open {
            add(operation, "403", OTHER_ORIGIN, &[]);
        } else {
            let ways = ["bearer", "basic", "apiKey"].into_iter();
            let needs = ways.map(|way| SecurityRequirement::new(way, [""; 0]));
            // With `auth.mode = "none"`, and in the first frame of a session, nothing is needed.
            let nothing = SecurityRequirement::default();
            operation.security = Some(needs.chain([nothing]).collect());
            let challenge = [(
                "WWW-Authenticate",
                "What is offered, and what is wrong with the token (RFC 6750)",
            )];
            add(operation, "401", UNAUTHENTICATED, &challenge);
            // What handlers say of it is about permissions already.
            let says = operation.responses.responses.contains_key("403");
            add(
                operation,
                "403",
                if says { OTHER_ORIGIN } else { NOT_LET_IN },
                &[],
            );
        }
        add(operation, "421", MISDIRECTED, &[]);
        add(operation, "429", TOO_MANY, &RATES);
    }
    item
}

fn add(operation: &mut Operation, status: &str, description: &str, headers: &[(&str, &str)]) {
    match operation.responses.responses.get_mut(status) {
        None => {
            let response = with_headers(answer(description), headers);
            let responses = &mut operation.responses.responses;
            responses.insert(status.to_owned(), response.into());
        }
        Some(RefOr::T(response)) => {
            response.description = format!("{}. {description}", response.description);
            *response = with_headers(std::mem::take(response), headers);
        }
        Some(RefOr::Ref(_)) => {}
    }
}

fn answer(description: &str) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Error")))
        .build();
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build()
}

fn with_headers(mut response: Response, headers: &[(&str, &str)]) -> Response {
    for (name, description) in headers {
        let kind = match *name {
            "WWW-Authenticate" => Type::String,
            _ => Type::Integer,
        };
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(kind)))
            .description(Some(*description))
            .build();
        response.headers.insert((*name).to_owned(), header.into());
    }
    response
}
