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

use super::records::stream;
use super::route_filter::RouteFilter;
use super::ws::{self, Shown};
use super::{docs, openapi, plain, records, root, tickets, v2, v3};
use crate::auth::audit_context::AuditContext;
use crate::auth::certificate::ClientCertificate;
use crate::auth::permission::{self, Action, Resource};
use crate::auth::{Page, Principal};
use crate::gateway::Gateway;
use crate::http::body;
use crate::http::cors;
use crate::http::credentials::{self, Found, Looked};
use crate::http::csrf::CsrfRules;
use crate::http::error::ApiError;
use crate::http::rate_limit::{self, RateLimits};
use crate::http::request_id::RequestId;
use crate::http::response_layer::{AnsweredBy, ResponseSettings, caught, with_response_layer};
use crate::observe::audit::Origin;
use crate::session::protocol::asyncapi;
use crate::transport::client_address::{TrustedProxies, counted_as};

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
    /// This permission, on each of the topics that the body names. The handler asks for it, once it has read the
    /// body; the guard only finds out who calls.
    TopicsInBody(Action),
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
    use Access::{Cluster, Group, Open, Principal, Session, Topic, Topics, TopicsInBody};
    use Action::{Admin, Alter, Consume, Create, Delete, Describe, Produce};
    const GROUP: Access = Group(Action::Group);
    const DELETE: Method = Method::DELETE;
    const GET: Method = Method::GET;
    const PATCH: Method = Method::PATCH;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    vec![
        row(GET,  "/", Open, routes!(root::index)),
        row(POST, "/", Open, routes!(root::post)),
        row(GET,  "/openapi.json", Open, routes!(openapi::get)),
        row(GET,  "/asyncapi.json", Open, routes!(asyncapi::get)),
        row(GET,  "/docs", Open, routes!(docs::index)),
        row(GET,  "/docs/{file}", Open, routes!(docs::file)),
        row(GET,  "/ws", Session, routes!(ws::get)),
        row(POST, "/tickets", Principal, routes!(tickets::create)),
        row(POST, "/topics/{topic}/records", Topic(Produce), routes!(records::write::post)),
        row(GET,  "/topics/{topic}/records", Topic(Consume), routes!(records::read::page)),
        row(GET,  "/records", Topics(Consume), routes!(stream::several)),
        row(GET,  "/topics/{topic}/partitions/{partition}/records/{offset}", Topic(Consume), routes!(records::read::one)),
        row(PUT,  "/topics/{topic}", Topic(Create), routes!(plain::topics::put)),
        row(DELETE, "/topics/{topic}", Topic(Delete), routes!(plain::topics::delete)),
        row(GET,  "/topics/{topic}/size", Topic(Describe), routes!(plain::storage::size)),
        row(DELETE, "/topics/{topic}/records", Topic(Delete), routes!(plain::storage::delete)),
        row(GET,  "/groups", Principal, routes!(plain::groups::list)),
        row(GET,  "/groups/{group}", Group(Describe), routes!(plain::groups::get)),
        row(DELETE, "/groups/{group}", GROUP, routes!(plain::groups::delete)),
        row(POST, "/groups/{group}/offsets", GROUP, routes!(plain::offsets::post)),
        row(DELETE, "/groups/{group}/offsets", GROUP, routes!(plain::offsets::delete)),
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
        row(GET,  "/v3/clusters", Principal, routes!(v3::clusters::list)),
        row(GET,  "/v3/clusters/{cluster}", Principal, routes!(v3::clusters::get)),
        row(GET,  "/v3/clusters/{cluster}/brokers", Principal, routes!(v3::brokers::list)),
        row(GET,  "/v3/clusters/{cluster}/brokers/{broker}", Principal, routes!(v3::brokers::get)),
        row(GET,  "/v3/clusters/{cluster}/brokers/{broker}/partition-replicas", Principal, routes!(v3::brokers::replicas)),
        row(GET,  "/v3/clusters/{cluster}/brokers/-/configs", Cluster(Describe), routes!(v3::configs::brokers::list_all)),
        row(GET,  "/v3/clusters/{cluster}/brokers/{broker}/configs", Cluster(Describe), routes!(v3::configs::brokers::list)),
        row(POST, "/v3/clusters/{cluster}/brokers/{broker}/configs:alter", Cluster(Admin), routes!(v3::configs::brokers::alter_one)),
        row(GET,  "/v3/clusters/{cluster}/brokers/{broker}/configs/{name}", Cluster(Describe), routes!(v3::configs::brokers::get)),
        row(PUT,  "/v3/clusters/{cluster}/brokers/{broker}/configs/{name}", Cluster(Admin), routes!(v3::configs::brokers::put)),
        row(DELETE, "/v3/clusters/{cluster}/brokers/{broker}/configs/{name}", Cluster(Admin), routes!(v3::configs::brokers::delete)),
        row(GET,  "/v3/clusters/{cluster}/brokers/{broker}/log-dirs", Cluster(Describe), routes!(v3::log_dirs::list)),
        row(GET,  "/v3/clusters/{cluster}/broker-configs", Cluster(Describe), routes!(v3::configs::all_brokers::list)),
        row(POST, "/v3/clusters/{cluster}/broker-configs:alter", Cluster(Admin), routes!(v3::configs::all_brokers::alter_all)),
        row(GET,  "/v3/clusters/{cluster}/broker-configs/{name}", Cluster(Describe), routes!(v3::configs::all_brokers::get)),
        row(PUT,  "/v3/clusters/{cluster}/broker-configs/{name}", Cluster(Admin), routes!(v3::configs::all_brokers::put)),
        row(DELETE, "/v3/clusters/{cluster}/broker-configs/{name}", Cluster(Admin), routes!(v3::configs::all_brokers::delete)),
        row(GET,  "/v3/clusters/{cluster}/topics", Principal, routes!(v3::topics::list)),
        row(POST, "/v3/clusters/{cluster}/topics", TopicsInBody(Create), routes!(v3::topics::create)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}", Topic(Describe), routes!(v3::topics::get)),
        row(PATCH, "/v3/clusters/{cluster}/topics/{topic}", Topic(Alter), routes!(v3::topics::update)),
        row(DELETE, "/v3/clusters/{cluster}/topics/{topic}", Topic(Delete), routes!(v3::topics::delete)),
        row(GET,  "/v3/clusters/{cluster}/topics/-/configs", Principal, routes!(v3::configs::topics::list_all)),
        row(POST, "/v3/clusters/{cluster}/topics/-/configs:alter", TopicsInBody(Alter), routes!(v3::configs::topics::alter_several)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/configs", Topic(Describe), routes!(v3::configs::topics::list)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/default-configs", Topic(Describe), routes!(v3::configs::topics::defaults)),
        row(POST, "/v3/clusters/{cluster}/topics/{topic}/configs:alter", Topic(Alter), routes!(v3::configs::topics::alter_one)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/configs/{name}", Topic(Describe), routes!(v3::configs::topics::get)),
        row(PUT,  "/v3/clusters/{cluster}/topics/{topic}/configs/{name}", Topic(Alter), routes!(v3::configs::topics::put)),
        row(DELETE, "/v3/clusters/{cluster}/topics/{topic}/configs/{name}", Topic(Alter), routes!(v3::configs::topics::delete)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions", Topic(Describe), routes!(v3::partitions::list)),
        row(GET,  "/v3/clusters/{cluster}/topics/-/partitions/-/reassignment", Principal, routes!(v3::reassignments::list)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/-/reassignment", Topic(Describe), routes!(v3::reassignments::of_topic)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}", Topic(Describe), routes!(v3::partitions::get)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset", Topic(Describe), routes!(v3::partitions::offsets)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment", Topic(Describe), routes!(v3::reassignments::get)),
        row(PUT,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment", Cluster(Admin), routes!(v3::reassignments::put)),
        row(DELETE, "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment", Cluster(Admin), routes!(v3::reassignments::delete)),
        row(POST, "/v3/clusters/{cluster}/topics/-/partitions/-/reassignment:alter", Cluster(Admin), routes!(v3::reassignments::alter)),
        row(POST, "/v3/clusters/{cluster}/topics/-/partitions/-/leader:elect", Cluster(Admin), routes!(v3::elections::several)),
        row(POST, "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/leader:elect", Cluster(Admin), routes!(v3::elections::one)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas", Topic(Describe), routes!(v3::partitions::replicas)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas/{broker}", Topic(Describe), routes!(v3::partitions::get_replica)),
        row(GET,  "/v3/clusters/{cluster}/acls", Cluster(Admin), routes!(v3::acls::list)),
        row(POST, "/v3/clusters/{cluster}/acls", Cluster(Admin), routes!(v3::acls::create)),
        row(DELETE, "/v3/clusters/{cluster}/acls", Cluster(Admin), routes!(v3::acls::delete)),
        row(POST, "/v3/clusters/{cluster}/acls:batch", Cluster(Admin), routes!(v3::acls::create_several)),
        row(GET,  "/v3/clusters/{cluster}/quotas", Cluster(Admin), routes!(v3::quotas::list)),
        row(POST, "/v3/clusters/{cluster}/quotas:alter", Cluster(Admin), routes!(v3::quotas::alter)),
        row(GET,  "/v3/clusters/{cluster}/scram-users", Cluster(Admin), routes!(v3::scram_users::list)),
        row(GET,  "/v3/clusters/{cluster}/scram-users/{user}", Cluster(Admin), routes!(v3::scram_users::get)),
        row(PUT,  "/v3/clusters/{cluster}/scram-users/{user}", Cluster(Admin), routes!(v3::scram_users::put)),
        row(DELETE, "/v3/clusters/{cluster}/scram-users/{user}", Cluster(Admin), routes!(v3::scram_users::delete)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups", Principal, routes!(v3::groups::list)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}", Group(Describe), routes!(v3::groups::get)),
        row(DELETE, "/v3/clusters/{cluster}/consumer-groups/{group}", GROUP, routes!(v3::groups::delete)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/consumers", Group(Describe), routes!(v3::groups::members::list)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}", Group(Describe), routes!(v3::groups::members::get)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}/assignments", Group(Describe), routes!(v3::groups::members::assignments)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}/assignments/{topic}/partitions/{partition}", Group(Describe), routes!(v3::groups::members::assignment)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/lag-summary", Group(Describe), routes!(v3::groups::lags::summary)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/lags", Group(Describe), routes!(v3::groups::lags::list)),
        row(GET,  "/v3/clusters/{cluster}/consumer-groups/{group}/lags/{topic}/partitions/{partition}", Group(Describe), routes!(v3::groups::lags::get)),
        row(GET,  "/v3/clusters/{cluster}/share-groups", Principal, routes!(v3::share_groups::list)),
        row(GET,  "/v3/clusters/{cluster}/share-groups/{group}", Group(Describe), routes!(v3::share_groups::get)),
        row(DELETE, "/v3/clusters/{cluster}/share-groups/{group}", GROUP, routes!(v3::share_groups::delete)),
        row(GET,  "/v3/clusters/{cluster}/share-groups/{group}/consumers", Group(Describe), routes!(v3::share_groups::members::list)),
        row(GET,  "/v3/clusters/{cluster}/share-groups/{group}/consumers/{consumer}", Group(Describe), routes!(v3::share_groups::members::get)),
        row(GET,  "/v3/clusters/{cluster}/share-groups/{group}/consumers/{consumer}/assignments", Group(Describe), routes!(v3::share_groups::members::assignments)),
        row(GET,  "/v3/clusters/{cluster}/share-groups/{group}/consumers/{consumer}/assignments/{topic}/partitions/{partition}", Group(Describe), routes!(v3::share_groups::members::assignment)),
        row(GET,  "/v3/clusters/{cluster}/share-groups/{group}/offsets", Group(Describe), routes!(v3::share_groups::offsets::list)),
        row(POST, "/v3/clusters/{cluster}/share-groups/{group}/offsets:alter", GROUP, routes!(v3::share_groups::offsets::alter)),
        row(DELETE, "/v3/clusters/{cluster}/share-groups/{group}/offsets/{topic}", GROUP, routes!(v3::share_groups::offsets::delete)),
        row(GET,  "/v3/clusters/{cluster}/transactions", Cluster(Admin), routes!(v3::transactions::list)),
        row(GET,  "/v3/clusters/{cluster}/transactions/{transactional_id}", Cluster(Admin), routes!(v3::transactions::get)),
        row(GET,  "/v3/clusters/{cluster}/hanging-transactions", Cluster(Admin), routes!(v3::transactions::hanging::list)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/producers", Topic(Describe), routes!(v3::transactions::producers::list)),
        row(POST, "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/transactions:abort", Cluster(Admin), routes!(v3::transactions::hanging::abort)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/records", Topic(Consume), routes!(v3::records::read::of_topic)),
        row(GET,  "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/records", Topic(Consume), routes!(v3::records::read::of_partition)),
        row(POST, "/v3/clusters/{cluster}/topics/{topic}/records", Topic(Produce), routes!(v3::records::produce)),
        row(POST, "/v3/clusters/{cluster}/topics/{topic}/records:batch", Topic(Produce), routes!(v3::records::produce_batch)),
    ]
}

/// The router of the public listeners.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where routes are made"
)]
pub fn router(gateway: Gateway) -> Router {
    let limits = RateLimits::new(gateway.settings());
    let pages = Arc::new(CsrfRules::new(gateway.settings()));
    let proxies = Arc::new(TrustedProxies::new(
        &gateway.settings().http.trusted_proxies,
    ));
    let mut router = Router::new();
    let mut methods = Vec::new();
    let http = &gateway.settings().http;
    let filter = RouteFilter::new(&http.allow, &http.block);
    let all = rows();
    for row in rows() {
        if let Some(refusal) = filter.instead_of(&row, &all) {
            router = router.route(row.path, refusal);
            continue;
        }
        let (_, _, handler) = row.handler;
        let guard = middleware::from_fn_with_state(
            Guard {
                gateway: gateway.clone(),
                access: row.access,
                proxies: Arc::clone(&proxies),
                pages: Arc::clone(&pages),
            },
            guard,
        );
        let handler = match &limits {
            Some(limits) => handler.route_layer(middleware::from_fn_with_state(
                Arc::clone(limits),
                rate_limit::limit,
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
    let response = ResponseSettings {
        access_log: settings.telemetry.access_log,
        embedded: gateway.cluster().is_embedded(),
        audited: gateway.auth().is_audited(),
    };
    let guard = Guard {
        gateway: gateway.clone(),
        access: Access::Open,
        proxies,
        pages: Arc::clone(&pages),
    };
    let no_such_path = any(no_such_path).with_state(guard);
    let router = router.fallback_service(no_such_path).with_state(gateway);
    let router = cors::allowed(router, &settings.http.cors_origins, methods);
    let router = pages.guard(router);
    with_response_layer(router, response)
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
            let item = openapi::common_responses::described(item, row.access);
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
    proxies: Arc<TrustedProxies>,
    pages: Arc<CsrfRules>,
}

/// What a request names that a permission is needed for.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Topic(String),
    Group(String),
    Cluster,
}

impl Named {
    fn resource(&self) -> Resource<'_> {
        match self {
            Self::Topic(name) => Resource::Topic(name),
            Self::Group(name) => Resource::Group(name),
            Self::Cluster => Resource::Cluster,
        }
    }
}

/// What a row asks of a request: all of these permissions. There is an answer for every access, so that
/// none is forgotten, and what cannot be answered is an error.
fn required(
    access: Access,
    params: &RawPathParams,
    query: Option<&str>,
) -> Result<Vec<(Action, Named)>, ApiError> {
    let param = |wanted: &str| {
        let found = params.iter().find(|(name, _)| *name == wanted);
        // A row that asks for what its path does not have is a mistake of ours.
        found
            .map(|(_, value)| value.to_owned())
            .ok_or_else(|| ApiError::internal(format_args!("the path of a route has no {wanted}")))
    };
    Ok(match access {
        Access::Open | Access::Principal | Access::Session | Access::TopicsInBody(_) => Vec::new(),
        Access::Topic(action) => vec![(action, Named::Topic(param("topic")?))],
        Access::Group(action) => vec![(action, Named::Group(param("group")?))],
        Access::Cluster(action) => vec![(action, Named::Cluster)],
        Access::Topics(action) => match stream::named(query)? {
            // Of no topic: only who may read any is told what is missing.
            topics if topics.is_empty() => vec![(action, Named::Topic(String::new()))],
            topics => topics
                .into_iter()
                .map(|topic| (action, Named::Topic(topic)))
                .collect(),
        },
    })
}

/// Whether a row is one of those that a stream ticket is for: records are read there, and nothing else
/// is done.
fn is_for_stream_tickets(access: Access, method: &Method) -> bool {
    match access {
        Access::Topic(Action::Consume) | Access::Topics(Action::Consume) => *method == Method::GET,
        Access::Open
        | Access::Principal
        | Access::Session
        | Access::Topic(_)
        | Access::Topics(_)
        | Access::TopicsInBody(_)
        | Access::Group(_)
        | Access::Cluster(_) => false,
    }
}

/// What is to be known of whoever calls a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Nothing, and nobody looks.
    Anyone,
    /// Who it is.
    Somebody,
    /// The same, now or in the first frame.
    AtUpgrade,
}

impl Access {
    const fn caller(self) -> Caller {
        match self {
            Self::Open => Caller::Anyone,
            Self::Session => Caller::AtUpgrade,
            Self::Principal
            | Self::Topic(_)
            | Self::Topics(_)
            | Self::TopicsInBody(_)
            | Self::Group(_)
            | Self::Cluster(_) => Caller::Somebody,
        }
    }
}

impl Guard {
    /// What the request shows of itself. Where nothing is asked for, nobody looks.
    fn found(&self, request: &Request) -> Result<Found, ApiError> {
        let auth = self.gateway.auth();
        if !auth.asks() {
            return Ok(Found::Nothing);
        }
        let query = request.uri().query();
        let looked = Looked {
            query_token: auth.allows_query_token(),
            keys: auth.takes_keys(),
        };
        let headers = request.headers();
        match self.access.caller() {
            Caller::Anyone => Ok(Found::Nothing),
            Caller::AtUpgrade => Ok(credentials::find_at_upgrade(headers, query, looked)),
            Caller::Somebody => credentials::find(headers, query, looked),
        }
    }

    /// Whoever shows it.
    async fn principal(
        &self,
        found: Result<Found, ApiError>,
        certificate: Option<&ClientCertificate>,
        page: Page<'_>,
        audit_context: &AuditContext,
    ) -> Result<Principal, ApiError> {
        let found = match found {
            Ok(found) => found,
            Err(refused) => {
                audit_context.count()?;
                audit_context.is_unknown(&refused.message());
                return Err(refused);
            }
        };
        let credential = match self.access.caller() {
            Caller::AtUpgrade => found.of_websocket(certificate, page),
            Caller::Somebody | Caller::Anyone => found.credential(certificate, page),
        };
        Ok(self
            .gateway
            .auth()
            .authenticate(credential, audit_context)
            .await?)
    }

    /// Whose request it is.
    fn audit_context(&self, request: &Request) -> AuditContext {
        let counted_as = || self.address(request).map(counted_as);
        let origin = || self.origin(request);
        self.gateway.auth().audit_context(origin, counted_as)
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
            gateway_id: id.map(|id| id.own().to_owned()).unwrap_or_default(),
            address: self.address(request),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
        }
    }

    /// Whether the row lets the principal in, by its ticket and by its permissions.
    fn lets_in(
        &self,
        principal: &Principal,
        params: &RawPathParams,
        request: &Request,
        audit_context: &AuditContext,
    ) -> Result<(), ApiError> {
        let refused = |error: ApiError| match audit_context.count() {
            Ok(()) => error,
            Err(too_many) => too_many.into(),
        };
        if principal.may_only_read_streams()
            && !is_for_stream_tickets(self.access, request.method())
        {
            let route = || format!("{} {}", request.method(), request.uri().path());
            principal.is_kept_out(route, STREAM_TICKET);
            return Err(refused(ApiError::new(
                StatusCode::FORBIDDEN,
                40301,
                STREAM_TICKET,
            )));
        }
        for (action, named) in required(self.access, params, request.uri().query())? {
            permission::authorize(principal, action, named.resource())
                .map_err(|denied| refused(denied.into()))?;
        }
        Ok(())
    }
}

/// What is told to whoever shows a stream ticket elsewhere.
const STREAM_TICKET: &str =
    "a ticket of kind sse opens GET of records alone; show the token for anything else";

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
        Err(rejection) => {
            let cause = format_args!("the parameters of the path: {}", rejection.body_text());
            return ApiError::internal(cause).into_response();
        }
    };
    let caller = guard.access.caller();
    if caller == Caller::Anyone {
        let request = request.map(body::of_anyone);
        let mut response = caught(next.run(request)).await;
        response.extensions_mut().insert(AnsweredBy(matched));
        return response;
    }
    let found = guard.found(&request);
    let certificate = request.extensions().get::<ClientCertificate>().cloned();
    let audit_context = guard.audit_context(&request);
    if caller == Caller::AtUpgrade {
        let shows_nothing = matches!(found, Ok(Found::Nothing)) && certificate.is_none();
        // What is no handshake is not judged: the handler says what is wrong with it. And whoever shows
        // nothing is to say in the first frame who it is.
        if !ws::is_handshake(&request) || (shows_nothing && guard.gateway.auth().asks()) {
            let shown = Shown {
                principal: None,
                audit_context,
                address: guard.address(&request),
            };
            request.extensions_mut().insert(shown);
            return caught(next.run(request)).await;
        }
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let own = match &found {
        Ok(Found::Ticket(_)) if origin.is_none() => guard.pages.own_origin(&request),
        _ => None,
    };
    let page = match &origin {
        None => Page::Unnamed(own.as_deref()),
        // One that cannot be read is nobody's.
        Some(origin) => Page::Of(origin.to_str().unwrap_or_default()),
    };
    let principal = guard.principal(found, certificate.as_ref(), page, &audit_context);
    let principal = match principal.await {
        Ok(principal) => principal,
        Err(refused) => return refused.into_response(),
    };
    if let Err(refused) = guard.lets_in(&principal, &params, &request, &audit_context) {
        return refused.into_response();
    }
    let route = || format!("{} {}", request.method(), matched.as_str());
    let let_in = match guard.access {
        Access::Session => {
            let shown = Shown {
                principal: Some(principal.clone()),
                audit_context: audit_context.clone(),
                address: guard.address(&request),
            };
            let let_in = principal.is_let_in(route);
            request.extensions_mut().insert(shown);
            let_in
        }
        // Of the topics in a body the log is told when the body has been read, if it can be.
        Access::Principal | Access::TopicsInBody(_) => principal.is_let_in(route),
        // Their permissions have been told of.
        Access::Open
        | Access::Topic(_)
        | Access::Topics(_)
        | Access::Group(_)
        | Access::Cluster(_) => Ok(()),
    };
    if let Err(untold) = let_in {
        return ApiError::from(untold).into_response();
    }
    request.extensions_mut().insert(principal);
    // Here, so that what a browser may see of a 500 is added to this one too.
    let mut response = caught(next.run(request)).await;
    response.extensions_mut().insert(AnsweredBy(matched));
    response
}

async fn no_such_path(State(guard): State<Guard>, request: Request) -> ApiError {
    if let Err(too_many) = guard.audit_context(&request).count() {
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
