//! The built program from outside: what its commands print where, and its exit statuses.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

/// The program in an empty folder of its own, without any variable of ours.
fn tidegate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(arguments);
    command
}

/// Makes the defaults sound in a build without the embedded broker too.
const CLUSTER: &str = "kafka.bootstrap_servers=a:1";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr_lines(output: &Output) -> Vec<&str> {
    let text = std::str::from_utf8(&output.stderr).expect("text");
    text.lines().collect()
}

#[test]
fn sample_prints_the_committed_file() {
    let folder = folder();
    let output = run(&mut tidegate(folder.path(), &["config", "sample"]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        include_str!("../docs/tidegate.sample.toml")
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn show_tells_value_and_source() {
    let folder = folder();
    std::fs::write(folder.path().join("my.toml"), "shutdown_grace_ms = 5\n").expect("written");
    let mut command = tidegate(folder.path(), &["config", "show", "--config", "my.toml"]);
    command.args(["--set", "limits.connections=7", "--set", CLUSTER]);
    // A password alone is refused: it would have no effect.
    for (name, value) in [
        ("SECURITY_PROTOCOL", "sasl_ssl"),
        ("SASL_MECHANISM", "PLAIN"),
        ("SASL_USERNAME", "gateway"),
        ("SASL_PASSWORD", "hunter2"),
    ] {
        command.env(format!("TIDEGATE_KAFKA__PROPERTIES__{name}"), value);
    }
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    let lines: Vec<String> = stdout(&output)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for expected in [
        "shutdown_grace_ms = 5 # file my.toml line 1",
        "limits.connections = 7 # flag --set",
        "kafka.properties.\"sasl.password\" = \"********\" # environment TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD",
        "telemetry.access_log = false # default",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }
    assert!(!stdout(&output).contains("hunter2"));
}

#[test]
fn show_shows_settings_that_break_a_rule_and_fails() {
    let folder = folder();
    let mut command = tidegate(folder.path(), &["config", "show"]);
    command.args(["--set", "listen=0.0.0.0:1"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("listen = \"0.0.0.0:1\""));
    assert_eq!(stderr_lines(&output).len(), 2);
}

#[test]
fn check_says_ok_or_everything() {
    let folder = folder();
    let sound = ["config", "check", "--set", CLUSTER];
    let output = run(&mut tidegate(folder.path(), &sound));
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    assert_eq!(stdout(&output), "ok\n");

    let text = "lisen = \"a:1\"\n[limits]\nrecord_bytes = \"much\"\n";
    std::fs::write(folder.path().join("tidegate.toml"), text).expect("written");
    let output = run(&mut tidegate(folder.path(), &["config", "check"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let lines = stderr_lines(&output);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].ends_with("did you mean listen?"), "{lines:#?}");
    assert!(
        lines[1].starts_with("error: limits.record_bytes (file tidegate.toml line 3)"),
        "{lines:#?}"
    );
}

#[test]
fn a_property_that_is_refused_is_said_once() {
    let folder = folder();
    for name in ["group.id", "plugin.library.paths", "test.mock.num.brokers"] {
        let set = format!("kafka.properties.{name}=x");
        let check = ["config", "check", "--set", CLUSTER, "--set", &set];
        let output = run(&mut tidegate(folder.path(), &check));
        assert_eq!(output.status.code(), Some(2));
        let lines = stderr_lines(&output);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let start = format!("error: kafka.properties.{name} (flag --set): cannot be set");
        assert!(lines[0].starts_with(&start), "{lines:?}");
    }
}

#[test]
fn serve_refuses_wrong_settings_before_it_listens() {
    let folder = folder();
    let mut command = tidegate(folder.path(), &["serve", "--listen", "0.0.0.0:0"]);
    command.args([
        "--set",
        "http.max_body_bytes=0",
        "--set",
        "nonsense_at_all=1",
    ]);
    command.env("TIDEGATE_AUTH__MOD", "none");
    command.env("TIDEGATE_KAFKA__EMBEDDED", "yes");
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let lines = stderr_lines(&output);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.starts_with("error: ")),
        "{lines:#?}"
    );
    assert!(
        lines[0].ends_with("did you mean TIDEGATE_AUTH__MODE?"),
        "{lines:#?}"
    );
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn serve_refuses_security_that_is_not_whole_before_it_listens() {
    let folder = folder();
    let text = "[auth]\nmode = \"jwt\"\n[[auth.issuers]]\nsecret_file = \"short\"\n\
                [[auth.issuers]]\nkey_file = \"missing.pem\"\nalgorithm = \"RS256\"\n\
                [tls]\ncert = \"missing.pem\"\n[http.cors]\norigins = [\"https://a.example/\"]\n";
    std::fs::write(folder.path().join("tidegate.toml"), text).expect("written");
    std::fs::write(folder.path().join("short"), "hunter2\n").expect("written");
    let serve = ["serve", "--set", CLUSTER];
    let output = run(&mut tidegate(folder.path(), &serve));
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let lines = stderr_lines(&output);
    let expected = [
        "error: auth.issuers[1].algorithm (file tidegate.toml line 7): unknown field; did you mean algorithms?",
        "error: http.cors.origins (file tidegate.toml line 11): ",
        "error: tls.cert (file tidegate.toml line 9): set without tls.key",
        "error: tls.cert (file tidegate.toml line 9): missing.pem cannot be read",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }

    let text = text.replace("algorithm =", "algorithms =");
    std::fs::write(folder.path().join("tidegate.toml"), text).expect("written");
    let output = run(&mut tidegate(folder.path(), &serve));
    assert_eq!(output.status.code(), Some(2));
    let lines = stderr_lines(&output);
    for expected in [
        "error: auth.issuers[0].secret_file (file tidegate.toml line 4): short has 7 bytes: expected a secret of at least 32",
        "error: auth.issuers[1].key_file (file tidegate.toml line 6): missing.pem cannot be read",
    ] {
        let is_there = lines.iter().any(|line| line.starts_with(expected));
        assert!(is_there, "{lines:#?}");
    }
    assert!(!lines.join("\n").contains("hunter2"), "{lines:#?}");
}

/// The claims of the one line on standard output, checked with the secret.
fn claims(output: &Output, audience: Option<&str>) -> serde_json::Value {
    let token = stdout(output).strip_suffix('\n').expect("a line");
    let mut validation = Validation::new(Algorithm::HS256);
    match audience {
        Some(audience) => validation.set_audience(&[audience]),
        None => validation.validate_aud = false,
    }
    let key = DecodingKey::from_secret(SECRET.as_bytes());
    let decoded = jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation);
    decoded.expect("a valid token").claims
}

#[test]
fn token_mints_what_an_issuer_with_the_secret_accepts() {
    let folder = folder();
    // As an editor leaves it.
    std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).expect("written");
    let plain = ["token", "--secret-file", "secret", "--sub", "ann"];
    let mut command = tidegate(folder.path(), &plain);
    command.args(["--scope", "consume:* produce:orders"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    assert!(output.stderr.is_empty());
    let claims_of_ann = claims(&output, None);
    assert_eq!(claims_of_ann["sub"], "ann");
    assert_eq!(claims_of_ann["scope"], "consume:* produce:orders");
    assert!(claims_of_ann.get("iss").is_none() && claims_of_ann.get("aud").is_none());
    let life = |claims: &serde_json::Value| {
        claims["exp"].as_u64().expect("a number") - claims["iat"].as_u64().expect("a number")
    };
    assert_eq!(life(&claims_of_ann), 3600);

    let mut command = tidegate(folder.path(), &plain);
    command.args(["--scope", "", "--ttl", "7d"]);
    command.args(["--issuer", "me", "--audience", "tidegate"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    let claims = claims(&output, Some("tidegate"));
    assert_eq!(claims["iss"], "me");
    assert_eq!(claims["scope"], "");
    assert_eq!(life(&claims), 7 * 24 * 3600);
}

#[test]
fn token_warns_of_scopes_that_are_no_permissions() {
    let folder = folder();
    std::fs::write(folder.path().join("secret"), SECRET).expect("written");
    let mut command = tidegate(folder.path(), &["token", "--secret-file", "secret"]);
    command.args(["--sub", "ann", "--scope", "openid consume:a read:b"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(claims(&output, None)["scope"], "openid consume:a read:b");
    let lines = stderr_lines(&output);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let start = "warning: scope \"openid\" is no permission: expected action:pattern";
    assert!(lines[0].starts_with(start), "{lines:#?}");
    let start = "warning: scope \"read:b\" is no permission: expected one of produce";
    assert!(lines[1].starts_with(start), "{lines:#?}");
}

#[test]
fn token_refuses_a_weak_secret_and_wrong_usage() {
    let folder = folder();
    std::fs::write(folder.path().join("secret"), SECRET).expect("written");
    std::fs::write(folder.path().join("short"), "hunter2\n").expect("written");
    for (secret, more, said) in [
        (
            "short",
            &[][..],
            "error: --secret-file: short has 7 bytes: expected a secret of at least 32",
        ),
        (
            "missing",
            &[],
            "error: --secret-file: missing cannot be read",
        ),
        (
            "secret",
            &["--ttl", "1"],
            "error: invalid value '1' for '--ttl <TIME>': expected",
        ),
        ("secret", &["--ttl", "0s"], "error: invalid value '0s'"),
        (
            "secret",
            &["--issuer", ""],
            "error: a value is required for '--issuer",
        ),
        (
            "secret",
            &["--bogus"],
            "error: unexpected argument '--bogus'",
        ),
    ] {
        let mut command = tidegate(folder.path(), &["token", "--secret-file", secret]);
        command
            .args(["--sub", "ann", "--scope", "consume:*"])
            .args(more);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(2), "{secret} {more:?}");
        assert!(output.stdout.is_empty());
        let lines = stderr_lines(&output);
        assert!(lines[0].starts_with(said), "{lines:#?}");
        assert!(!lines.join("\n").contains("hunter2"), "{lines:#?}");
    }
}

#[test]
fn usage_errors_end_with_status_2() {
    let folder = folder();
    for arguments in [
        &["serve", "--bogus"][..],
        &["serve", "--embedded", "--bootstrap-servers", "a:1"],
        &["frobnicate"],
        &["token"],
        &[],
    ] {
        let output = run(&mut tidegate(folder.path(), arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let folder = folder();
    let output = run(&mut tidegate(folder.path(), &["--version"]));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

/// A listener that answers one request so.
fn answering(status: &'static str) -> (TcpListener, impl FnOnce(TcpListener)) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let answer = move |listener: TcpListener| {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a request");
            request.push(byte[0]);
        }
        assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"));
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").expect("the answer");
    };
    (listener, answer)
}

#[test]
fn healthcheck_follows_the_management_listener() {
    let folder = folder();
    for (status, code) in [("200 OK", 0), ("503 Service Unavailable", 1)] {
        let (listener, answer) = answering(status);
        let port = listener.local_addr().expect("its address").port();
        let served = std::thread::spawn(move || answer(listener));
        let mut command = tidegate(folder.path(), &["healthcheck"]);
        command.env("TIDEGATE_MANAGEMENT__LISTEN", format!("0.0.0.0:{port}"));
        // A rule that only the gateway's own flags satisfy is none of the check's business.
        command.env("TIDEGATE_LISTEN", "0.0.0.0:8082");
        let output = run(&mut command);
        served.join().expect("the server ends");
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.is_empty());
        assert_eq!(stderr_lines(&output).len(), code as usize);
    }
}

#[test]
fn healthcheck_takes_a_url() {
    let folder = folder();
    let (listener, answer) = answering("200 OK");
    let url = format!(
        "http://{}/readyz",
        listener.local_addr().expect("its address")
    );
    let served = std::thread::spawn(move || answer(listener));
    let output = run(&mut tidegate(
        folder.path(),
        &["healthcheck", "--url", &url],
    ));
    served.join().expect("the server ends");
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    let output = run(&mut tidegate(
        folder.path(),
        &["healthcheck", "--url", "ftp://a"],
    ));
    assert_eq!(output.status.code(), Some(1));
}

/// A file of Confluent's that has a secret and a line without a counterpart.
const KAFKA_REST: &str = "bootstrap.servers=a:1\nclient.security.protocol=SASL_SSL\nclient.sasl.mechanism=PLAIN\nclient.sasl.jaas.config=x.PlainLoginModule required username=\"u\" password=\"hunter2\";\nconsumer.threads=50\n";

#[test]
fn import_prints_settings_that_check_accepts() {
    let folder = folder();
    let file = folder.path().join("kafka-rest.properties");
    std::fs::write(file, KAFKA_REST).expect("written");
    let import = ["config", "import", "kafka-rest.properties"];
    let output = run(&mut tidegate(folder.path(), &import));
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    assert!(stdout(&output).contains("# line 5: consumer.threads: "));
    assert!(stdout(&output).contains("\"sasl.password\" = \"hunter2\""));
    assert_eq!(stderr_lines(&output).len(), 1);
    assert!(!stderr_lines(&output)[0].contains("hunter2"));

    std::fs::write(folder.path().join("tidegate.toml"), stdout(&output)).expect("written");
    let output = run(&mut tidegate(folder.path(), &["config", "check"]));
    assert_eq!(stdout(&output), "ok\n", "{:?}", stderr_lines(&output));
}

#[test]
fn import_writes_a_file_for_its_owner_and_replaces_none_unasked() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    std::fs::write(folder.path().join("in"), KAFKA_REST).expect("written");
    let out = folder.path().join("out.toml");
    let import = ["config", "import", "in", "--output", "out.toml"];
    let output = run(&mut tidegate(folder.path(), &import));
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    assert!(output.stdout.is_empty());
    let mode = std::fs::metadata(&out).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    std::fs::write(&out, "mine").expect("written");
    let output = run(&mut tidegate(folder.path(), &import));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&out).expect("there"), "mine");
    let output = run(tidegate(folder.path(), &import).arg("--force"));
    assert_eq!(output.status.code(), Some(0), "{:?}", stderr_lines(&output));
    assert!(
        std::fs::read_to_string(&out)
            .expect("there")
            .contains("hunter2")
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 2);

    let output = run(&mut tidegate(
        folder.path(),
        &["config", "import", "in", "--output", "no/such/folder.toml"],
    ));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn import_refuses_what_it_cannot_read_and_names_the_line() {
    let folder = folder();
    for (text, arguments, expected) in [
        ("a=b", &[][..], "--from says which it is"),
        ("a=1\nb=\\u12", &[], "line 2: "),
        ("{\n\"port\": }", &["--from", "karapace"], "line 2: "),
        ("[]", &["--from", "karapace"], "expected one JSON object"),
        ("a=b", &["--from", "nobody"], "invalid value 'nobody'"),
        ("a=b", &["--force"], "--output"),
    ] {
        std::fs::write(folder.path().join("in"), text).expect("written");
        let mut command = tidegate(folder.path(), &["config", "import", "in"]);
        let output = run(command.args(arguments));
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(output.stdout.is_empty());
        let said = stderr_lines(&output).join("\n");
        assert!(said.contains(expected), "{text}: {said}");
    }
    for missing in ["none", "."] {
        let output = run(&mut tidegate(folder.path(), &["config", "import", missing]));
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stderr_lines(&output).len(), 1);
    }
}

#[test]
fn help_names_the_import() {
    let folder = folder();
    let output = run(&mut tidegate(folder.path(), &["config", "--help"]));
    assert!(stdout(&output).contains("import"));
    let output = run(&mut tidegate(
        folder.path(),
        &["config", "import", "--help"],
    ));
    for word in ["confluent", "strimzi", "karapace", "--output", "--force"] {
        assert!(stdout(&output).contains(word), "{word}");
    }
}
