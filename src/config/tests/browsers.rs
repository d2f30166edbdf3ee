//! Settings of what stands between clients and the listeners: TLS, proxies, hosts, origins, rates.

use super::*;

/// What the key holds after `--set KEY=VALUE`.
fn list(key: &str, value: &str) -> Result<Vec<String>, String> {
    let inputs = with_set(&[&format!("{key}={value}")]);
    let loaded = load_lines(&inputs).map_err(|lines| lines.join("\n"))?;
    let http = loaded.settings.http;
    Ok(match key {
        "http.trusted_proxies" => http.trusted_proxies,
        "http.allowed_hosts" => http.allowed_hosts,
        "http.allow" => http.allow,
        "http.block" => http.block,
        _ => http.cors_origins,
    })
}

#[test]
fn lists_are_written_in_four_ways() {
    let key = "http.cors.origins";
    let both = ["https://a.example".to_owned(), "http://b:1".to_owned()];
    let text = "[http.cors]\norigins = [\"https://a.example\", \"http://b:1\"]\n";
    let loaded = load_text(text).expect("the list is sound");
    assert_eq!(loaded.settings.http.cors_origins, both);
    let loaded = load_text("http.cors.origins = \"https://a.example\"").expect("one is a list");
    assert_eq!(loaded.settings.http.cors_origins, both[..1]);
    for value in [
        "[\"https://a.example\", \"http://b:1\"]",
        "https://a.example, http://b:1",
    ] {
        assert_eq!(list(key, value).as_deref(), Ok(&both[..]), "{value}");
        let inputs = with_env(&[("TIDEGATE_HTTP__CORS__ORIGINS", value)]);
        let loaded = load_lines(&inputs).expect("the variable is sound");
        assert_eq!(loaded.settings.http.cors_origins, both, "{value}");
    }
    for none in ["", "[]"] {
        assert_eq!(list(key, none), Ok(Vec::new()), "{none:?}");
    }
    for (value, said) in [
        ("[1]", "got a list"),
        ("\"\"", "got \"\" (no scheme"),
        ("{a = 1}", "got a table"),
        ("https://a,", "got \"\" (no scheme"),
        (
            "a, b",
            "got \"a\" (no scheme, as in https://), \"b\" (no scheme",
        ),
    ] {
        let error = list(key, value).expect_err(value);
        assert!(error.contains(said), "{value}: {error}");
    }
}

#[test]
fn proxies_are_addresses_or_networks() {
    for text in [
        "10.0.0.1",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::1",
        "fd00::/8",
        "2001:db8::1/128",
    ] {
        let kept = list("http.trusted_proxies", text);
        assert_eq!(kept, Ok(vec![text.to_owned()]));
    }
    for text in [
        "proxy.example",
        "10.0.0",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0.1:80",
        "[::1]",
        "*",
        "10.0.0.0/999",
    ] {
        let error = list("http.trusted_proxies", text).expect_err(text);
        assert!(
            error.contains("expected an IP address or network"),
            "{error}"
        );
    }
}

#[test]
fn routes_are_a_method_and_a_path() {
    for (text, kept) in [
        ("POST /topics/*", "POST /topics/*"),
        ("/brokers", "* /brokers"),
        (" *   /topics/{topic}/records ", "* /topics/{topic}/records"),
        ("GET *", "GET *"),
    ] {
        let got = list("http.block", text);
        assert_eq!(got, Ok(vec![kept.to_owned()]));
        assert!(list("http.allow", text).is_ok());
    }
    for (text, said) in [
        ("post /tickets", "in capitals"),
        ("POST tickets", "begins with a slash"),
        ("tickets", "begins with a slash"),
        ("POST /a b", "not a method and a path"),
        ("[\"\"]", "not a method and a path"),
    ] {
        let error = list("http.block", text).expect_err(text);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn hosts_are_names_without_ports() {
    for (text, kept) in [
        ("gateway.example", "gateway.example"),
        ("Gateway.LAN", "gateway.lan"),
        ("192.168.1.5", "192.168.1.5"),
        ("[FD00::1]", "[fd00::1]"),
    ] {
        let got = list("http.allowed_hosts", text);
        assert_eq!(got, Ok(vec![kept.to_owned()]));
    }
    for (text, said) in [
        ("gateway.example:8082", "leave the port out"),
        ("[::1]:80", "leave the port out"),
        ("*.example", "not a host"),
        ("http://gateway.example", "not a host"),
        ("::1", "not a host"),
        ("a b", "not a host"),
    ] {
        let error = list("http.allowed_hosts", text).expect_err(text);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn origins_are_what_browsers_send() {
    for text in [
        "https://app.example",
        "http://localhost:3000",
        "http://127.0.0.1:5173",
        "http://[::1]:3000",
        "http://[::ffff:102:304]",
        "https://xn--bcher-kva.example",
        "https://a.example:80",
        "chrome-extension://abcdefghijklmnop",
        "capacitor://localhost",
    ] {
        let kept = list("http.cors.origins", text);
        assert_eq!(kept, Ok(vec![text.to_owned()]));
    }
    for (text, said) in [
        ("null", "sandboxed pages"),
        ("*", "no wildcards"),
        ("https://*.example", "no wildcards"),
        ("app.example", "no scheme"),
        ("https://app.example/", "leave out what follows"),
        ("https://app.example/a", "leave out what follows"),
        ("https://app.example?a", "leave out what follows"),
        ("https://me@app.example", "leave out the user"),
        ("https://App.example", "browsers send https://app.example"),
        ("HTTPS://app.example", "browsers send https://app.example"),
        (
            "https://app.example:443",
            "browsers send https://app.example",
        ),
        ("http://app.example:80", "browsers send http://app.example"),
        ("http://app.example:0", "browsers send http://app.example"),
        (
            "http://app.example:08080",
            "browsers send http://app.example:8080",
        ),
        ("http://[0:0::1]", "browsers send http://[::1]"),
        ("https://bücher.example", "Punycode"),
        ("https://", "not a host"),
        ("https://a.example:x", "not a host"),
        ("file:///a", "leave out what follows"),
        ("1a://b", "not a scheme"),
        ("://b", "not a scheme"),
    ] {
        let error = list("http.cors.origins", text).expect_err(text);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn rates_may_be_unlimited() {
    let loaded = load_lines(&with_set(&[
        "limits.connections_per_address=5",
        "limits.requests_per_second=100",
        "limits.bytes_per_second=1 MiB",
    ]))
    .expect("the limits are sound");
    let limits = loaded.settings.limits;
    assert_eq!(limits.connections_per_address, 5);
    assert_eq!(limits.requests_per_second, 100);
    assert_eq!(limits.bytes_per_second, 1 << 20);
    let off = ["limits.requests_per_second=0", "limits.bytes_per_second=0"];
    load_lines(&with_set(&off)).expect("0 is no limit");
    for set in [
        "limits.connections_per_address=0",
        "limits.requests_per_second=1000001",
        "limits.requests_per_second=-1",
        "limits.bytes_per_second=2 TiB",
    ] {
        let line = complaint(&with_set(&[set]));
        assert!(line.contains(": expected "), "{set}: {line}");
    }
}

#[test]
fn a_certificate_and_its_key_come_together() {
    let folder = folder_with("");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, "# something\n").expect("written");
    let file = file.to_str().expect("the path is text");
    let set = |keys: &[&str]| {
        let set: Vec<_> = keys.iter().map(|key| format!("tls.{key}={file}")).collect();
        let set: Vec<_> = set.iter().map(String::as_str).collect();
        load_lines(&with_set(&set)).map_err(|lines| lines.join("\n"))
    };
    for (keys, said) in [
        (&["cert"][..], "tls.cert (flag --set): set without tls.key"),
        (&["key"], "tls.key (flag --set): set without tls.cert"),
        (
            &["key", "client_ca"],
            "tls.key (flag --set): set without tls.cert",
        ),
        (
            &["client_ca"],
            "tls.client_ca (flag --set): set without tls.cert and tls.key",
        ),
    ] {
        let error = set(keys).expect_err(said);
        assert!(error.starts_with(said), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let loaded = set(&["cert", "key"]).expect("both");
    assert!(loaded.settings.tls.client_ca.is_none());
    let loaded = set(&["cert", "key", "client_ca"]).expect("all");
    assert!(loaded.settings.tls.client_ca.is_some());
}
