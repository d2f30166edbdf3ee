//! Every path in one list: method, path, what it needs, handler.
//!
//! A row is all there is to adding a route: the router, the OpenAPI document and the tests that
//! walk the API are made from it, and a handler cannot be reached without the check that its row
//! names. `clippy.toml` disallows `Router::route` elsewhere.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::{Components, OpenApi};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::offered::Offered;
use super::records::follow;
use super::ws::protocol::asyncapi;
use super::ws::upgrade::{self, Shown};
use super::{docs, everywhere, openapi, records, root, tickets, v2};
use crate::auth::Principal;
use crate::auth::asker::Asker;
use crate::auth::certificate::ClientCertificate;
use crate::auth::permission::{self, Action, Resource};
use crate::gateway::Gateway;
use crate::http::client::{Proxies, counted_as};
use crate::http::cors;
use crate::http::credentials::{self, Found};
use crate::http::cross_site::CrossSite;
use crate::http::error::ApiError;
use crate::http::finish::{AnsweredBy, Finish, caught, finished};
use crate::http::rate::{self, Rates};
use crate::http::request_id::RequestId;
use crate::observe::audit::Origin;

/// What a caller needs to reach a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: anyone may call it, whatever `auth.mode` says.
    Open,
    /// To be someone: any principal may call it, and is shown what it may see.
    Principal,
    /// To show nothing that is wrong: credentials may also come in the first frame.
    Session,
    /// This permission, on the topic that the path parameter `topic` names.
    Topic(Action),
    /// This permission, on each of the topics that the query parameter `topics` names.
    Topics(Action),
    /// This permission, on the group that the path parameter `group` names.
    Group(Action),
    /// This permission, on the cluster as a whole.
    Cluster(Action),
}

/// One path and method of the API.
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// What a caller needs.
    pub access: Access,
    handler: UtoipaMethodRouter<Gateway>,
}

fn row(
    method: Method,
    path: &'static str,
    access: Access,
    handler: UtoipaMethodRouter<Gateway>,
) -> Row {
    Row {
        method,
        path,
        access,
        handler,
    }
}

/// The list.
#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    use Access::{Cluster, Open, Principal, Session, Topic, Topics};
    use Action::{Admin, Consume, Describe, Produce};
    const GROUP: Access = Access::Group(Action::Group);
    const DELETE: Method = Method::DELETE;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    vec![
        row(GET,  "/", Open, routes!(root::index)),
        row(POST, "/", Open, routes!(root::post)),
        row(GET,  "/openapi.json", Open, routes!(openapi::get)),
        row(GET,  "/asyncapi.json", Open, routes!(asyncapi::get)),
        row(GET,  "/docs", Open, routes!(docs::index)),
        row(GET,  "/docs/{file}", Open, routes!(docs::file)),
        row(GET,  "/ws", Session, routes!(upgrade::get)),
        row(POST, "/tickets", Principal, routes!(tickets::create)),
        row(POST, "/topics/{topic}/records", Topic(Produce), routes!(records::write::post)),
        row(GET,  "/topics/{topic}/records", Topic(Consume), routes!(records::read::page)),
        row(GET,  "/records", Topics(Consume), routes!(follow::several)),
        row(GET,  "/topics/{topic}/partitions/{partition}/records/{offset}", Topic(Consume), routes!(records::read::one)),
        row(GET,  "/topics", Principal, routes!(v2::topics::list)),
        row(GET,  "/topics/{topic}", Topic(Describe), routes!(v2::topics::get)),
        row(POST, "/topics/{topic}", Topic(Produce), routes!(v2::produce::to_topic)),
        row(GET,  "/topics/{topic}/partitions", Topic(Describe), routes!(v2::partitions::list)),
        row(GET,  "/topics/{topic}/partitions/{partition}", Topic(Describe), routes!(v2::partitions::get)),
        row(POST, "/topics/{topic}/partitions/{partition}", Topic(Produce), routes!(v2::produce::to_partition)),
        row(GET,  "/topics/{topic}/partitions/{partition}/offsets", Topic(Describe), routes!(v2::partitions::offsets)),
        row(GET,  "/topics/{topic}/partitions/{partition}/records", Topic(Consume), routes!(v2::reading::read)),
        row(GET,  "/brokers", Principal, routes!(v2::brokers::list)),
        row(POST, "/admin/topics", Cluster(Admin), routes!(v2::admin::create_topic)),
        row(GET,  "/healthy", Open, routes!(v2::health::healthy)),
        row(GET,  "/ready", Open, routes!(v2::health::ready)),
        row(GET,  "/_health", Open, routes!(v2::health::health)),
        row(POST, "/consumers/{group}", GROUP, routes!(v2::consumers::create::create)),
        row(DELETE, "/consumers/{group}/instances/{instance}", GROUP, routes!(v2::consumers::create::delete)),
        row(POST, "/consumers/{group}/instances/{instance}/subscription", GROUP, routes!(v2::consumers::subscription::post)),
        row(GET,  "/consumers/{group}/instances/{instance}/subscription", GROUP, routes!(v2::consumers::subscription::get)),
        row(DELETE, "/consumers/{group}/instances/{instance}/subscription", GROUP, routes!(v2::consumers::subscription::delete)),
        row(POST, "/consumers/{group}/instances/{instance}/assignments", GROUP, routes!(v2::consumers::assignments::post)),
        row(GET,  "/consumers/{group}/instances/{instance}/assignments", GROUP, routes!(v2::consumers::assignments::get)),
        row(GET,  "/consumers/{group}/instances/{instance}/records", GROUP, routes!(v2::consumers::records::read)),
        row(POST, "/consumers/{group}/instances/{instance}/offsets", GROUP, routes!(v2::consumers::offsets::commit)),
        row(GET,  "/consumers/{group}/instances/{instance}/offsets", GROUP, routes!(v2::consumers::offsets::committed)),
        row(POST, "/consumers/{group}/instances/{instance}/positions", GROUP, routes!(v2::consumers::positions::post)),
        row(POST, "/consumers/{group}/instances/{instance}/positions/beginning", GROUP, routes!(v2::consumers::positions::beginning)),
        row(POST, "/consumers/{group}/instances/{instance}/positions/end", GROUP, routes!(v2::consumers::positions::end)),
    ]
}

/// The router of the public listeners.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where routes are made"
)]
pub fn router(gateway: Gateway) -> Router {
    let rates = Rates::new(gateway.settings());
    let proxies = Arc::new(Proxies::new(&gateway.settings().http.trusted_proxies));
    let mut router = Router::new();
    let mut methods = Vec::new();
    let http = &gateway.settings().http;
    let offered = Offered::new(&http.allow, &http.block);
    let all = rows();
    for row in rows() {
        if let Some(refusal) = offered.instead_of(&row, &all) {
            router = router.route(row.path, refusal);
            continue;
        }
        let (_, _, handler) = row.handler;
        let guard = middleware::from_fn_with_state(
            Guard {
                gateway: gateway.clone(),
                access: row.access,
                proxies: Arc::clone(&proxies),
            },
            guard,
        );
        let handler = match &rates {
            Some(rates) => handler.route_layer(middleware::from_fn_with_state(
                Arc::clone(rates),
                rate::limit,
            )),
            None => handler,
        };
        let handler = handler.route_layer(guard);
        router = router.route(
            row.path,
            if row.method == Method::GET {
                handler.layer(compression())
            } else {
                handler
            },
        );
        methods.push(row.method);
    }
    let settings = gateway.settings().clone();
    let finish = Finish {
        access_log: settings.telemetry.access_log,
        embedded: gateway.cluster().is_embedded(),
        shares_id: gateway.auth().is_audited(),
    };
    let guard = Guard {
        gateway: gateway.clone(),
        access: Access::Open,
        proxies,
    };
    let no_such_path = any(no_such_path).with_state(guard);
    let router = router.fallback_service(no_such_path).with_state(gateway);
    let router = cors::allowed(router, &settings.http.cors_origins, methods);
    let router = CrossSite::new(&settings).guard(router);
    finished(router, finish)
}

/// Packs what is read, for clients that take gzip: but nothing small, and never a stream, whose pieces
/// would wait in the packer for more.
fn compression() -> CompressionLayer<impl Predicate> {
    const SMALLEST: u64 = 1024;
    let predicate = SizeAbove::new(SMALLEST)
        .and(NotForContentType::SSE)
        .and(NotForContentType::const_new("application/x-ndjson"));
    CompressionLayer::new()
        .gzip(true)
        .quality(CompressionLevel::Fastest)
        .compress_when(predicate)
}

/// The paths and schemas of the OpenAPI document, in the list's order.
pub(super) fn document(base: OpenApi) -> OpenApi {
    let mut document = base;
    for row in rows() {
        let (schemas, paths, _) = row.handler;
        for (path, item) in paths.paths {
            let item = everywhere::described(item, row.access);
            match document.paths.paths.get_mut(&path) {
                Some(existing) => existing.merge_operations(item),
                None => {
                    document.paths.paths.insert(path, item);
                }
            }
        }
        document
            .components
            .get_or_insert_with(Components::new)
            .schemas
            .extend(schemas);
    }
    document
}

/// What stands before the handler of a row.
#[derive(Clone)]
struct Guard {
    gateway: Gateway,
    access: Access,
    proxies: Arc<Proxies>,
}

impl Guard {
    /// What the request shows of itself. An open route does not ask.
    fn found(&self, request: &Request) -> Result<Option<Found>, ApiError> {
        if self.access == Access::Open {
            return Ok(None);
        }
        let query = request.uri().query();
        let in_query = self.gateway.auth().allows_query_token();
        let headers = request.headers();
        match self.access {
            Access::Session => credentials::find_at_upgrade(headers, query, in_query),
            _ => credentials::find(headers, query, in_query),
        }
        .map(Some)
    }

    /// Whoever shows it.
    async fn principal(
        &self,
        found: Result<Option<Found>, ApiError>,
        certificate: Option<ClientCertificate>,
        page: Option<&str>,
        asker: &Asker,
    ) -> Result<Principal, ApiError> {
        match found {
            Ok(None) => Ok(Principal::anonymous().asking(asker)),
            Ok(Some(found)) => {
                let subject = certificate.as_ref().map(|shown| shown.subject.as_str());
                let credential = match self.access {
                    Access::Session => found.of_websocket(subject, page),
                    _ => found.credential(subject),
                };
                Ok(self.gateway.auth().authenticate(credential, asker).await?)
            }
            Err(refused) => {
                asker.count()?;
                asker.is_unknown(&refused.message());
                Err(refused)
            }
        }
    }

    /// Whose request it is.
    fn asker(&self, request: &Request) -> Asker {
        let counted_as = || self.address(request).map(counted_as);
        let origin = || self.origin(request);
        self.gateway.auth().asker(origin, counted_as)
    }

    fn address(&self, request: &Request) -> Option<IpAddr> {
        self.proxies
            .address_of(request.extensions(), request.headers())
    }

    /// Where the request comes from, for the audit log.
    fn origin(&self, request: &Request) -> Origin {
        let id = request.extensions().get::<RequestId>();
        Origin {
            request_id: id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            address: self.address(request),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
        }
    }
}

/// Stands before every handler: finds out who asks, and whether the row lets them in.
async fn guard(
    State(guard): State<Guard>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    matched: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let params = match params {
        Ok(params) => params,
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(error)) => {
            return ApiError::bad_request(format!("{}; percent-encode UTF-8", error.body_text()))
                .at("path")
                .into_response();
        }
        Err(_) => return ApiError::internal().into_response(),
    };
    let found = guard.found(&request);
    let certificate = request.extensions().get::<ClientCertificate>().cloned();
    let asker = guard.asker(&request);
    if guard.access == Access::Session && !upgrade::is_handshake(&request) {
        // The handler says what is wrong with it.
        let shown = Shown {
            principal: None,
            asker,
        };
        request.extensions_mut().insert(shown);
        return caught(next.run(request)).await;
    }
    if guard.access == Access::Session
        && matches!(found, Ok(Some(Found::Nothing)))
        && certificate.is_none()
        && guard.gateway.auth().asks()
    {
        // The first frame is to say who it is.
        let shown = Shown {
            principal: None,
            asker,
        };
        request.extensions_mut().insert(shown);
        return caught(next.run(request)).await;
    }
    let page = request.headers().get(header::ORIGIN).cloned();
    let page = page.as_ref().and_then(|page| page.to_str().ok());
    let principal = match guard.principal(found, certificate, page, &asker).await {
        Ok(principal) => principal,
        Err(refused) => return refused.into_response(),
    };
    if guard.access == Access::Session {
        principal.is_let_in(|| format!("{} {}", request.method(), matched.as_str()));
        let shown = Shown {
            principal: Some(principal.clone()),
            asker: asker.clone(),
        };
        request.extensions_mut().insert(shown);
    }
    if guard.access == Access::Principal {
        principal.is_let_in(|| format!("{} {}", request.method(), matched.as_str()));
    }
    let named = |wanted: &str| {
        params
            .iter()
            .find_map(|(name, value)| (name == wanted).then_some(value))
    };
    if let Access::Group(action) = guard.access {
        let Some(group) = named("group") else {
            return ApiError::internal().into_response();
        };
        if let Err(denied) = permission::decide(&principal, action, Resource::Group(group)) {
            let counted = asker.count().map(|()| ApiError::from(denied));
            return counted.unwrap_or_else(ApiError::from).into_response();
        }
    }
    if let Access::Cluster(action) = guard.access
        && let Err(denied) = permission::decide(&principal, action, Resource::Cluster)
    {
        let counted = asker.count().map(|()| ApiError::from(denied));
        return counted.unwrap_or_else(ApiError::from).into_response();
    }
    let needed = match guard.access {
        Access::Topic(action) => {
            let Some(topic) = named("topic") else {
                return ApiError::internal().into_response();
            };
            Some((action, vec![topic.to_owned()]))
        }
        Access::Topics(action) => match follow::named(request.uri().query()) {
            // Of no topic: only who may read any is told what is missing.
            Ok(topics) if topics.is_empty() => Some((action, vec![String::new()])),
            Ok(topics) => Some((action, topics)),
            Err(unread) => return unread.into_response(),
        },
        _ => None,
    };
    if let Some((action, topics)) = needed {
        for topic in &topics {
            if let Err(denied) = permission::decide(&principal, action, Resource::Topic(topic)) {
                let counted = asker.count().map(|()| ApiError::from(denied));
                return counted.unwrap_or_else(ApiError::from).into_response();
            }
        }
    }
    request.extensions_mut().insert(principal);
    // Here, so that what a browser may see of a 500 is added to this one too.
    let mut response = caught(next.run(request)).await;
    response.extensions_mut().insert(AnsweredBy(matched));
    response
}

async fn no_such_path(State(guard): State<Guard>, request: Request) -> ApiError {
    if let Err(too_many) = guard.asker(&request).count() {
        return too_many.into();
    }
    ApiError::plain(
        StatusCode::NOT_FOUND,
        format!(
            "there is no {}; GET /openapi.json lists what there is",
            request.uri().path().chars().take(200).collect::<String>()
        ),
    )
}

#[cfg(test)]
mod tests;
