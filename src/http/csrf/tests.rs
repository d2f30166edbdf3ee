//! The rules one by one. That they stand around every route is proven in `tests/it`.

use axum::body::Body;

use super::*;

/// A request to the gateway at `http://gw.example:8082`, unless the headers say otherwise.
struct Given {
    settings: Settings,
    method: Method,
    path: &'static str,
    peer: &'static str,
}

impl Default for Given {
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.auth.mode = AuthMode::Jwt;
        settings.http.cors_origins = vec!["https://app.example".into(), "null".into()];
        settings.http.trusted_proxies = vec!["10.0.0.0/8".into()];
        settings.http.allowed_hosts = vec!["dev.example".into(), "[2001:db8::1]".into()];
        Self {
            settings,
            method: Method::POST,
            path: "/topics/orders/records",
            peer: "192.0.2.9:50000",
        }
    }
}

impl Given {
    /// 0 when it is let in, else the status and the header at fault.
    fn examine(&self, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "gw.example:8082");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = self.peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        match CsrfRules::new(&self.settings).examine(&request) {
            Ok(()) => (0, String::new()),
            Err(error) => {
                let status = error.status().as_u16();
                (
                    status,
                    error.into_body().field.unwrap_or_default().into_owned(),
                )
            }
        }
    }
}

fn refused(field: &str) -> (u16, String) {
    (403, field.to_owned())
}

fn let_in() -> (u16, String) {
    (0, String::new())
}

#[test]
fn a_client_that_is_no_browser_is_let_in() {
    assert_eq!(Given::default().examine(&[]), let_in());
}

#[test]
fn an_origin_is_its_own_or_listed_to_the_letter() {
    for (origin, expected) in [
        ("http://gw.example:8082", let_in()),
        ("http://GW.example:8082", let_in()),
        ("https://app.example", let_in()),
        ("https://gw.example:8082", refused("Origin")),
        ("http://gw.example", refused("Origin")),
        ("http://gw.example:8083", refused("Origin")),
        ("http://gw.example.evil:8082", refused("Origin")),
        ("https://app.example.evil", refused("Origin")),
        ("https://app.example:444", refused("Origin")),
        ("http://app.example", refused("Origin")),
        ("https://evil.example", refused("Origin")),
        ("null", refused("Origin")),
        ("", refused("Origin")),
        ("gw.example:8082", refused("Origin")),
        ("http://user@gw.example:8082", refused("Origin")),
    ] {
        let given = Given::default();
        assert_eq!(given.examine(&[("origin", origin)]), expected, "{origin}");
        // A browser cannot lie about the one; what it says of the other changes nothing.
        let both = [("origin", origin), ("sec-fetch-site", "cross-site")];
        assert_eq!(given.examine(&both), expected, "{origin}");
    }
    let twice = [
        ("origin", "https://app.example"),
        ("origin", "https://evil"),
    ];
    assert_eq!(Given::default().examine(&twice), (400, "Origin".to_owned()));
}

#[test]
fn the_default_port_may_be_left_out_on_either_side() {
    for (host, origin, tls) in [
        ("gw.example", "http://gw.example", false),
        ("gw.example:80", "http://gw.example", false),
        ("gw.example", "https://gw.example", true),
        ("gw.example:443", "https://gw.example", true),
        ("[2001:db8::1]:8082", "http://[2001:db8::1]:8082", false),
    ] {
        let mut given = Given::default();
        given.settings.tls.cert = tls.then(|| "cert.pem".into());
        let headers = [("host", host), ("origin", origin)];
        assert_eq!(given.examine(&headers), let_in(), "{origin}");
    }
}

#[test]
fn a_trusted_proxy_tells_the_own_origin() {
    let headers = [
        ("origin", "https://gw.example"),
        ("host", "10.0.0.2:8082"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "gw.example"),
    ];
    let mut given = Given::default();
    assert_eq!(given.examine(&headers), refused("Origin"));
    given.peer = "10.0.0.9:40000";
    assert_eq!(given.examine(&headers), let_in());
    let standard = [
        ("origin", "https://gw.example"),
        (
            "forwarded",
            "for=203.0.113.7;proto=https;host=\"gw.example\"",
        ),
    ];
    assert_eq!(given.examine(&standard), let_in());
    let foreign = [
        ("origin", "https://evil.example"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "gw.example"),
    ];
    assert_eq!(given.examine(&foreign), refused("Origin"));
}

#[test]
fn a_request_of_another_site_without_an_origin_is_refused() {
    let mut given = Given {
        method: Method::GET,
        ..Given::default()
    };
    for (site, expected) in [
        ("same-origin", let_in()),
        ("none", let_in()),
        ("same-site", refused("Sec-Fetch-Site")),
        ("cross-site", refused("Sec-Fetch-Site")),
        ("something-new", refused("Sec-Fetch-Site")),
    ] {
        for mode in ["no-cors", "navigate"] {
            let headers = [
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", "document"),
            ];
            assert_eq!(given.examine(&headers), expected, "{site} {mode}");
        }
    }
    given.path = "/openapi.json";
    let headers = [("sec-fetch-site", "cross-site")];
    assert_eq!(given.examine(&headers), refused("Sec-Fetch-Site"));
}

#[test]
fn a_link_may_lead_to_a_page() {
    for (method, path, mode, dest, expected) in [
        (Method::GET, "/", "navigate", "document", true),
        (Method::GET, "/docs", "navigate", "document", true),
        (
            Method::GET,
            "/docs/index.html",
            "navigate",
            "document",
            true,
        ),
        (Method::GET, "/docs/index.html", "navigate", "iframe", false),
        (Method::GET, "/docs/index.html", "no-cors", "script", false),
        (Method::POST, "/docs", "navigate", "document", false),
        (Method::GET, "/docsafe", "navigate", "document", false),
        (
            Method::GET,
            "/topics/a/records",
            "navigate",
            "document",
            false,
        ),
    ] {
        let given = Given {
            method: method.clone(),
            path,
            ..Given::default()
        };
        let headers = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
        ];
        let (status, _) = given.examine(&headers);
        assert_eq!(status == 0, expected, "{method} {path} {mode} {dest}");
    }
}

fn open() -> Given {
    let mut given = Given::default();
    given.settings.auth.mode = AuthMode::None;
    given
}

#[test]
fn without_authentication_a_host_is_one_that_nobody_can_register() {
    let wrong = (421, "Host".to_owned());
    let mut given = open();
    given.settings.server.advertised_url = Some("https://Kafka.example:8443/gw".into());
    for (host, expected) in [
        ("localhost", let_in()),
        ("LOCALHOST:8082", let_in()),
        ("localhost.:8082", wrong.clone()),
        ("gateway.localhost:8082", let_in()),
        ("127.0.0.1:8082", let_in()),
        ("192.0.2.1:8082", let_in()),
        ("[::1]:8082", let_in()),
        ("[2001:db8::7]", let_in()),
        // Containers and services of a cluster.
        ("tidegate:8082", let_in()),
        ("tidegate.default.svc", let_in()),
        ("tidegate.default.svc.cluster.local:8082", let_in()),
        ("gw.corp.internal", let_in()),
        ("nas.local", let_in()),
        ("gw.test", let_in()),
        // What the settings name.
        ("dev.example:8082", let_in()),
        ("Dev.Example", let_in()),
        ("kafka.example:8443", let_in()),
        ("kafka.example", let_in()),
        ("evil.example:8082", wrong.clone()),
        ("localhost.evil.example", wrong.clone()),
        ("evil.svc.example", wrong.clone()),
        ("eviltest.example", wrong.clone()),
        (".local", wrong.clone()),
        ("2130706433", wrong.clone()),
        ("127.1", wrong.clone()),
        ("[::2", wrong.clone()),
        ("", wrong.clone()),
        ("localhost@evil.example", wrong.clone()),
        ("localhost:80@evil.example", wrong.clone()),
        ("evil.example#.local", wrong.clone()),
    ] {
        assert_eq!(given.examine(&[("host", host)]), expected, "{host}");
    }
}

#[test]
fn a_forwarded_host_does_not_stand_for_the_real_one() {
    let mut given = Given {
        peer: "127.0.0.1:50000",
        ..open()
    };
    given.settings.http.trusted_proxies = vec!["127.0.0.1".into()];
    let headers = [
        ("host", "evil.example:8082"),
        ("origin", "http://evil.example:8082"),
        ("x-forwarded-host", "localhost"),
    ];
    assert_eq!(given.examine(&headers).0, 421);
}

#[test]
fn a_gateway_that_asks_who_calls_has_any_name() {
    let elsewhere = [("host", "evil.example")];
    assert_eq!(Given::default().examine(&elsewhere), let_in());
}

#[test]
fn the_own_origin_is_as_browsers_write_it() {
    for (host, forwarded, tls, expected) in [
        (
            "GW.example:8082",
            None,
            false,
            Some("http://gw.example:8082"),
        ),
        ("gw.example:80", None, false, Some("http://gw.example")),
        ("gw.example:443", None, true, Some("https://gw.example")),
        (
            "[2001:DB8::1]:8082",
            None,
            false,
            Some("http://[2001:db8::1]:8082"),
        ),
        (
            "10.0.0.1",
            Some("gw.example"),
            false,
            Some("https://gw.example"),
        ),
        ("a b", None, false, None),
        ("a:b", None, false, None),
    ] {
        let mut given = Given::default();
        if tls {
            given.settings.tls.cert = Some("cert.pem".into());
        }
        let mut request = Request::builder().uri("/").header("host", host);
        if let Some(forwarded) = forwarded {
            request = request
                .header("x-forwarded-for", "192.0.2.9")
                .header("x-forwarded-proto", "https")
                .header("x-forwarded-host", forwarded);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = "10.0.0.7:1".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let own = CsrfRules::new(&given.settings).own_origin(&request);
        assert_eq!(own.as_deref(), expected, "{host}");
    }
}

#[test]
fn a_request_with_two_host_headers_is_refused() {
    let headers = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(Given::default().examine(&headers).0, 400);
}
