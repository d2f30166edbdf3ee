//! Settings of tokens: issuers, roles, and the files that hold secrets.

use jsonwebtoken::Algorithm;

use secrecy::ExposeSecret;

use super::*;
use crate::config::{
    IssuerSettings, KeySource, Partitioner, Source, read_permission, read_secret, show,
};

const JWT: &str = "auth.mode=jwt";
const JWKS: &str = "auth.issuers=[{jwks_url = \"https://id.example/keys\"}]";

const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Where the embedded broker is asked for by name, unless a cluster is named: tokens alone do not start it.
fn by_name(inputs: Inputs) -> Inputs {
    let names_cluster = |set: &String| set.starts_with("kafka.bootstrap_servers=");
    Inputs {
        embedded: !inputs.set.iter().any(names_cluster),
        ..inputs
    }
}

fn with_set(set: &[&str]) -> Inputs {
    by_name(super::with_set(set))
}

fn with_env(env: &[(&str, &str)]) -> Inputs {
    by_name(super::with_env(env))
}

fn in_folder(cwd: &Path) -> Inputs {
    by_name(super::in_folder(cwd))
}

/// A folder with a secret, a public key and a settings file, in which `{dir}` is the folder.
fn folder_of_files(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("the file is written");
    };
    write("secret", "9f86d081884c7d659a2feaa0c55ad015\r\n");
    keep_to_the_owner(&folder.path().join("secret"));
    write("public.pem", "-----BEGIN PUBLIC KEY-----\n");
    write("tidegate.toml", &in_dir(&folder, text));
    folder
}

fn keep_to_the_owner(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("the file is the test's own");
}

fn in_dir(folder: &tempfile::TempDir, text: &str) -> String {
    let dir = folder.path().to_str().expect("the path is text");
    text.replace("{dir}", dir)
}

fn issuers_of(text: &str) -> Result<Vec<IssuerSettings>, Vec<String>> {
    let folder = folder_of_files(text);
    let loaded = load_lines(&in_folder(folder.path()))?;
    Ok(loaded.settings.auth.issuers)
}

#[test]
fn issuers_have_keys_of_three_kinds() {
    let issuers = issuers_of(
        "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\nissuer = \"a\"\naudience = \"b\"\nkey_file = \"{dir}/public.pem\"\n\
         [[auth.issuers]]\naudience = [\"c\", \"d\"]\nalgorithms = [\"ES256\", \"EdDSA\", \"ES256\"]\n\
         jwks_url = \"http://localhost:8080/keys\"\n",
    )
    .expect("the issuers are sound");
    let [secret, file, url] = issuers.as_slice() else {
        panic!("{issuers:#?}");
    };
    assert_eq!(secret.issuer, None);
    assert!(secret.audience.is_empty());
    assert_eq!(secret.algorithms, [Algorithm::HS256]);
    assert!(matches!(&secret.keys, KeySource::SecretFile(path) if path.ends_with("secret")));
    assert_eq!(file.issuer.as_deref(), Some("a"));
    assert_eq!(file.audience, ["b"]);
    assert_eq!(file.algorithms, ASYMMETRIC);
    assert!(matches!(&file.keys, KeySource::KeyFile(path) if path.ends_with("public.pem")));
    assert_eq!(url.audience, ["c", "d"]);
    assert_eq!(url.algorithms, [Algorithm::ES256, Algorithm::EdDSA]);
    let expected = KeySource::JwksUrl("http://localhost:8080/keys".into());
    assert_eq!(url.keys, expected);
}

#[test]
fn a_later_layers_issuers_replace_an_earlier_ones() {
    let folder = folder_of_files(
        "[auth]\nmode = \"jwt\"\n[[auth.issuers]]\nsecret_file = \"{dir}/missing\"\n\
         [[auth.issuers]]\nkey_file = \"{dir}/missing\"\n",
    );
    let mut inputs = in_folder(folder.path());
    assert_eq!(complaints(&inputs).len(), 2);
    let list = "[{ issuer = \"env\", secret_file = '{dir}/secret' }]";
    let variable = "TIDEGATE_AUTH__ISSUERS";
    inputs.env = vec![(variable.into(), in_dir(&folder, list).into())];
    let loaded = load_lines(&inputs).expect("the variable is sound");
    assert_eq!(loaded.settings.auth.issuers.len(), 1);
    let from_variable = Source::Environment(variable.into());
    assert_eq!(*loaded.source("auth.issuers"), from_variable);
    let field = "auth.issuers[0].secret_file";
    assert_eq!(*loaded.source(field), from_variable);
    assert_eq!(*loaded.source("auth.issuers[1].key_file"), Source::Default);

    inputs.set = vec![JWKS.into()];
    let loaded = load_lines(&inputs).expect("the flag is sound");
    let issuer = &loaded.settings.auth.issuers[0];
    assert_eq!(issuer.issuer, None);
    assert_eq!(*loaded.source("auth.issuers"), Source::Flag("--set"));
    assert_eq!(*loaded.source(field), Source::Default);
}

#[test]
fn everything_wrong_with_issuers_is_told_at_once_where_it_is() {
    let folder = folder_of_files(
        "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nissuer = 5\naudiense = \"a\"\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\naudience = []\nkey_file = \"{dir}/public.pem\"\nalgorithms = [\"HS256\"]\n\
         [[auth.issuers]]\nissuer = \"c\"\n",
    );
    assert_eq!(
        complaints(&in_folder(folder.path())),
        [
            "auth.issuers[0].issuer (file tidegate.toml line 4): expected a string, got a whole number",
            "auth.issuers[0].audiense (file tidegate.toml line 5): unknown field; did you mean audience?",
            "auth.issuers[1].audience (file tidegate.toml line 8): expected at least one: leave the field out where any will do",
            "auth.issuers[1].algorithms (file tidegate.toml line 10): HS256 does not go with key_file: expected some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
            "auth.issuers[2] (file tidegate.toml line 12): expected one of secret_file, key_file and jwks_url, or an issuer that is an https URL, where its keys can be found",
        ]
    );
}

/// What is said of one issuer on the command line.
fn said_of(fields: &str) -> String {
    complaint(&with_set(&[JWT, &format!("auth.issuers=[{{{fields}}}]")]))
}

#[test]
fn an_algorithm_goes_with_its_kind_of_key() {
    for (fields, said) in [
        (
            "secret_file = 'a', algorithms = 'RS256'",
            "RS256 does not go with secret_file",
        ),
        (
            "secret_file = 'a', algorithms = ['HS512', 'EdDSA']",
            "EdDSA does not go with secret_file: expected some of HS256, HS384, HS512",
        ),
        (
            "secret_file = 'a', algorithms = 'ES256'",
            "ES256 does not go with secret_file",
        ),
        (
            "secret_file = 'a', algorithms = 'PS256'",
            "PS256 does not go with secret_file",
        ),
        (
            "jwks_url = 'https://a/', algorithms = 'HS384'",
            "HS384 does not go with jwks_url",
        ),
        (
            "key_file = 'a', algorithms = ['RS256', 'HS512']",
            "HS512 does not go with key_file",
        ),
        ("key_file = 'a', algorithms = 'none'", "never accepted"),
        (
            "secret_file = 'a', algorithms = ['HS256', 'NonE']",
            "never accepted",
        ),
        ("key_file = 'a', algorithms = 'ES512'", "got \"ES512\""),
        ("key_file = 'a', algorithms = 'rs256'", "got \"rs256\""),
        ("key_file = 'a', algorithms = []", "expected at least one"),
        ("key_file = 'a', algorithms = 1", "got a whole number"),
    ] {
        let line = said_of(fields);
        let start = "auth.issuers[0].algorithms (flag --set): ";
        assert!(line.starts_with(start), "{fields}: {line}");
        assert!(line.contains(said), "{fields}: {line}");
    }
}

#[test]
fn an_issuer_has_keys_from_one_place() {
    for issuer in ["a", "http://id.example", "https://id.example?a=b"] {
        let line = said_of(&format!("issuer = '{issuer}'"));
        assert_eq!(
            line,
            "auth.issuers[0] (flag --set): expected one of secret_file, key_file and jwks_url, or an issuer that is an https URL, where its keys can be found"
        );
    }
    let line = said_of("");
    assert!(
        line.starts_with("auth.issuers[0] (flag --set): expected one of"),
        "{line}"
    );
    let line = said_of("key_file = 'a', jwks_url = 'https://a/'");
    assert_eq!(
        line,
        "auth.issuers[0] (flag --set): has key_file and jwks_url: leave all but one out"
    );
}

#[test]
fn an_issuer_may_have_a_ceiling_of_permissions() {
    let issuers = issuers_of(
        "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\npermissions_allowed = \"consume:a group:{sub}-*\"\n",
    )
    .expect("the issuers are sound");
    assert_eq!(issuers[0].permissions_allowed, None);
    let list = issuers[1].permissions_allowed.as_deref();
    assert_eq!(
        list,
        Some(&["consume:a".to_owned(), "group:{sub}-*".to_owned()][..])
    );
    for (value, said) in [
        ("[]", "expected at least one permission"),
        ("''", "expected at least one permission"),
        ("['consume']", "expected action:pattern"),
        ("['read:a']", "expected one of produce, "),
        ("['admin:a']", "admin takes no pattern but *"),
        ("['consume:{user}']", "expected no braces but"),
        ("1", "expected a list of permissions"),
    ] {
        let line = said_of(&format!("key_file = 'a', permissions_allowed = {value}"));
        let start = "auth.issuers[0].permissions_allowed (flag --set): ";
        assert!(line.starts_with(start) && line.contains(said), "{line}");
    }
}

#[test]
fn the_scope_of_an_issuers_tokens_may_be_off() {
    let issuers = issuers_of(
        "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\nscope = false\n",
    )
    .expect("the issuers are sound");
    assert!(issuers[0].scope && !issuers[1].scope);
    let line = said_of("key_file = 'a', scope = 'scp'");
    assert!(
        line.ends_with("].scope (flag --set): expected true or false, got a string"),
        "{line}"
    );
}

#[test]
fn a_claim_of_an_issuers_tokens_names_the_principal() {
    let issuers = issuers_of(
        "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\nprincipal_claim = \"act.email\"\n",
    )
    .expect("the issuers are sound");
    assert_eq!(issuers[0].principal_claim, "sub");
    assert_eq!(issuers[1].principal_claim, "act.email");
    for value in ["''", "'a..b'", "'.'", "1", "['sub']"] {
        let line = said_of(&format!("key_file = 'a', principal_claim = {value}"));
        let start = "auth.issuers[0].principal_claim (flag --set): expected a";
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn an_issuer_may_ask_for_a_type_of_tokens() {
    let issuers = issuers_of(
        "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\nsecret_file = \"{dir}/secret\"\ntyp = \"at+jwt\"\n",
    )
    .expect("the issuers are sound");
    assert_eq!(issuers[0].typ, None);
    assert_eq!(issuers[1].typ.as_deref(), Some("at+jwt"));
    for value in ["''", "' '", "1", "['at+jwt']"] {
        let line = said_of(&format!("key_file = 'a', typ = {value}"));
        let start = "auth.issuers[0].typ (flag --set): expected a string, got ";
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn an_issuer_that_is_a_url_needs_no_other_word_on_its_keys() {
    let text = "[auth]\nmode = \"jwt\"\n\
         [[auth.issuers]]\nissuer = \"https://id.example/realms/a\"\naudience = \"b\"\n\
         [[auth.issuers]]\nissuer = \"http://localhost:8080\"\nalgorithms = \"ES256\"\n\
         [[auth.issuers]]\nissuer = \"https://id.example\"\nsecret_file = \"{dir}/secret\"\n";
    let issuers = issuers_of(text).expect("the issuers are sound");
    let found = KeySource::Discovered("https://id.example/realms/a".to_owned());
    assert_eq!(issuers[0].keys, found);
    assert_eq!(issuers[0].algorithms, ASYMMETRIC);
    let found = KeySource::Discovered("http://localhost:8080".to_owned());
    assert_eq!(issuers[1].keys, found);
    assert_eq!(issuers[1].algorithms, [Algorithm::ES256]);
    assert!(matches!(issuers[2].keys, KeySource::SecretFile(_)));
    let folder = folder_of_files(text);
    let loaded = load_lines(&in_folder(folder.path())).expect("the issuers are sound");
    let again = load_text(&show(&loaded)).expect("what is shown is sound");
    assert_eq!(again.settings, loaded.settings);
    let line = said_of("issuer = 'https://id.example', algorithms = 'HS256'");
    assert!(
        line.contains("HS256 does not go with discovered keys"),
        "{line}"
    );
}

#[test]
fn unknown_fields_of_an_issuer_name_the_nearest() {
    for (field, hint) in [
        ("isuer", "did you mean issuer?"),
        ("iss", "did you mean issuer?"),
        ("aud", "did you mean audience?"),
        ("algorithm", "did you mean algorithms?"),
        ("secret", "did you mean secret_file?"),
        ("jwks_uri", "did you mean jwks_url?"),
        ("zzzzzz", "an issuer has issuer, realm, audience, "),
    ] {
        // Whatever it holds could be a secret.
        let line = said_of(&format!("{field} = 'hunter2'"));
        assert!(line.contains(hint), "{field}: {line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_jwks_url_is_one_of_the_web_without_credentials() {
    for url in [
        "",
        "keys",
        "ftp://a/",
        "file:///keys",
        "https://",
        "//a/keys",
        "http://id.example/keys",
    ] {
        let line = said_of(&format!("jwks_url = '{url}'"));
        assert!(line.contains("jwks_url (flag --set): expected a"), "{line}");
    }
    let line = said_of("jwks_url = 'https://me:hunter2@id.example/keys'");
    assert!(line.contains("without a user and password"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn issuers_are_a_list_of_tables() {
    let line = complaint_about_text(
        "auth.mode = \"jwt\"\nkafka.embedded = true\n[auth.issuers]\nsecret_file = \"a\"\n",
    );
    assert!(
        line.starts_with("auth.issuers (file tidegate.toml line 3)"),
        "{line}"
    );
    assert!(
        line.contains("under [[auth.issuers]] with double brackets"),
        "{line}"
    );
    for value in ["5", "hunter2", "[{secret_file='hunter2'", "", "'a'"] {
        let line = complaint(&with_set(&[JWT, &format!("auth.issuers={value}")]));
        assert!(line.contains("expected a list of tables"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    let line = complaint(&with_set(&[JWT, "auth.issuers=['a']"]));
    assert_eq!(
        line,
        "auth.issuers[0] (flag --set): expected a table, got a string"
    );
    for set in [
        "auth.issuers[0].secret_file=a",
        "auth.issuers.secret_file=a",
    ] {
        let line = complaint(&with_set(&[JWT, set]));
        assert!(line.ends_with("did you mean auth.issuers?"), "{line}");
    }
    let line = complaint(&with_env(&[
        ("TIDEGATE_AUTH__MODE", "jwt"),
        ("TIDEGATE_AUTH__ISSUERS__0__SECRET_FILE", "a"),
    ]));
    assert!(
        line.ends_with("did you mean TIDEGATE_AUTH__ISSUERS?"),
        "{line}"
    );
}

#[test]
fn tokens_need_an_issuer() {
    let line = complaint(&with_set(&[JWT]));
    assert_eq!(
        line,
        "auth.mode (flag --set): \"jwt\", but there are no auth.issuers, so that no token could be accepted: add one"
    );
    let inputs = Inputs {
        listen: vec!["0.0.0.0:1".into()],
        ..with_set(&[JWT, JWKS, "kafka.bootstrap_servers=a:1"])
    };
    load_lines(&inputs).expect("with tokens the gateway may listen anywhere");
}

#[test]
fn issuers_or_roles_without_a_mode_are_a_forgotten_setting() {
    for (key, set) in [
        ("auth.issuers", JWKS),
        ("auth.roles", "auth.roles.reader=consume:*"),
    ] {
        let mut inputs = with_set(&[set, "kafka.bootstrap_servers=a:1"]);
        // The API would be open: that is said once, with the better advice.
        inputs.listen = vec!["0.0.0.0:1".into()];
        let line = complaint(&inputs);
        assert_eq!(
            line,
            format!(
                "auth.mode (default): \"none\", but {key} is set and would do nothing: set auth.mode = \"jwt\" or \"users\", or \"none\" by name"
            )
        );
        load_lines(&with_set(&[set, "auth.mode=none"])).expect("switched off by name");
    }
}

#[test]
fn roles_merge_over_the_layers() {
    let folder = folder_with(
        "auth.mode = \"none\"\n[auth.roles]\nreader = [\"consume:*\"]\nwriter = \"produce:* describe:a\"\n\"CN=app\" = [\"admin:*\"]\n",
    );
    let mut inputs = in_folder(folder.path());
    inputs.env = vec![(
        "TIDEGATE_AUTH__ROLES__READER".into(),
        "consume:a group:{sub}-*".into(),
    )];
    inputs.set = vec![
        "auth.roles={nobody = []}".into(),
        "auth.roles.ops=[\"alter:a\", \"delete:a\"]".into(),
    ];
    let loaded = load_lines(&inputs).expect("the roles are sound");
    let roles = &loaded.settings.auth.roles;
    let names: Vec<_> = roles.keys().map(String::as_str).collect();
    assert_eq!(names, ["CN=app", "nobody", "ops", "reader", "writer"]);
    assert_eq!(roles["reader"], ["consume:a", "group:{sub}-*"]);
    assert_eq!(roles["writer"], ["produce:*", "describe:a"]);
    assert_eq!(roles["ops"], ["alter:a", "delete:a"]);
    let shown = show(&loaded);
    for line in [
        "auth.roles.\"CN=app\" = [\"admin:*\"]",
        "auth.roles.\"nobody\" = []",
        "auth.roles.\"reader\" = [\"consume:a\", \"group:{sub}-*\"]",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let whole = with_env(&[
        ("TIDEGATE_AUTH__MODE", "none"),
        ("TIDEGATE_AUTH__ROLES", "{Reader = ['consume:*']}"),
    ]);
    let loaded = load_lines(&whole).expect("the table is sound");
    assert_eq!(loaded.settings.auth.roles["Reader"], ["consume:*"]);
}

#[test]
fn a_role_has_permissions_only() {
    let said = |value: &str| {
        let role = format!("auth.roles.r={value}");
        let line = complaint(&with_set(&["auth.mode=none", &role]));
        let rest = line.strip_prefix("auth.roles.r (flag --set): ");
        rest.expect("the role is named").to_owned()
    };
    assert_eq!(
        said("[\"consume:*\", \"read:a\", \"consume\"]"),
        "expected one of produce, consume, group, describe, create, alter, delete, transact, admin before the colon, got \"read:a\"; expected action:pattern, such as consume:orders.*, got \"consume\""
    );
    assert!(said("[\"admin:a\"]").starts_with("admin takes no pattern but *"));
    for pattern in ["{user}-*", "{sub", "sub}", "{ sub }", "{}"] {
        let line = said(&format!("[\"group:{pattern}\"]"));
        assert!(
            line.starts_with("expected no braces but those of {sub} and {iss}"),
            "{line}"
        );
    }
    assert!(said("[1]").contains("expected a list of permissions"));
    assert!(said("[\"\"]").contains("expected action:pattern"));
    let line = complaint(&with_set(&["auth.mode=none", "auth.roles=consume:*"]));
    assert!(
        line.contains("expected a table of lists of permissions"),
        "{line}"
    );
}

#[test]
fn settings_that_are_seldom_meant_give_warnings() {
    let warnings = |text: &str| {
        let folder = folder_of_files(text);
        let loaded = load_lines(&in_folder(folder.path()));
        loaded.expect("the settings are sound").warnings()
    };
    let head = "[auth]\nmode = \"jwt\"\n";
    let issuer = |name: &str, more: &str| {
        format!("[[auth.issuers]]\nissuer = \"{name}\"\nsecret_file = \"{{dir}}/secret\"\n{more}\n")
    };
    let sound = issuer("a", "audience = \"tidegate\"");
    assert!(warnings(&format!("{head}{sound}")).is_empty());
    let said = warnings(&format!("{head}{}", issuer("a", "")));
    assert!(
        said.len() == 1 && said[0].starts_with("auth.issuers[0]: no audience"),
        "{said:?}"
    );
    let roles = "[auth.roles]\nreader = [\"consume:in.{sub}\"]\n";
    let said = warnings(&format!("{head}{sound}{roles}"));
    assert!(
        said.len() == 1 && said[0].contains("auth.roles_claim"),
        "{said:?}"
    );
    let claimed = format!("{head}roles_claim = \"roles\"\n");
    assert!(warnings(&format!("{claimed}{sound}{roles}")).is_empty());
    // The same subject may be two people's.
    let other = issuer("b", "audience = \"tidegate\"");
    let said = warnings(&format!("{claimed}{sound}{other}{roles}"));
    assert!(said.len() == 1 && said[0].contains("{iss}"), "{said:?}");
    let staff = |name| issuer(name, "audience = \"tidegate\"\nrealm = \"staff\"");
    let (one, two) = (staff("a"), staff("b"));
    assert!(warnings(&format!("{claimed}{one}{two}{roles}")).is_empty());
}

#[test]
fn weak_secrets_and_secret_files_that_others_can_read_give_warnings() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder_of_files(
        "[auth]\nmode = \"jwt\"\nticket_key_file = \"{dir}/ticket.key\"\n\
         [[auth.issuers]]\naudience = \"a\"\nsecret_file = \"{dir}/secret\"\n\
         [kafka.properties]\n\"ssl.key.location\" = \"{dir}/kafka.pem\"\n",
    );
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [
        ("ticket.key", "changeme".repeat(4)),
        ("kafka.pem", "x".to_owned()),
    ] {
        std::fs::write(path(name), text).expect("written");
        keep_to_the_owner(&path(name));
    }
    let warnings = || {
        let loaded = load_lines(&in_folder(folder.path()));
        loaded.expect("the settings are sound").warnings()
    };
    let said = warnings();
    assert!(
        said.len() == 1
            && said[0].starts_with("auth.ticket_key_file: ")
            && said[0].contains("can be guessed"),
        "{said:?}"
    );
    for name in ["secret", "kafka.pem"] {
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(path(name), mode).expect("set");
    }
    let said = warnings();
    for key in [
        "kafka.properties.ssl.key.location",
        "auth.issuers[0].secret_file",
    ] {
        let is_said = |line: &String| line.starts_with(key) && line.contains("can read");
        assert!(said.iter().any(is_said), "{said:?}");
    }
    assert!(!said.join(" ").contains("changeme"), "{said:?}");
}

#[test]
fn the_ticket_key_is_not_an_issuers_secret() {
    let folder = folder_of_files(
        "[auth]\nmode = \"jwt\"\nticket_key_file = \"{dir}/ticket.key\"\n\
         [[auth.issuers]]\njwks_url = \"https://id.example/keys\"\n\
         [[auth.issuers]]\nissuer = \"b\"\nsecret_file = \"{dir}/secret\"\n",
    );
    let key = folder.path().join("ticket.key");
    // The line's end is no part of it.
    std::fs::write(&key, "9f86d081884c7d659a2feaa0c55ad015").expect("written");
    let line = complaint(&in_folder(folder.path()));
    assert!(line.starts_with("auth.ticket_key_file (file"), "{line}");
    assert!(line.contains("auth.issuers[1]"), "{line}");
    assert!(!line.contains("9f86"), "{line}");
    std::fs::write(&key, "3c6e0b8a9c15224a8228b9a98ca1531d").expect("written");
    load_lines(&in_folder(folder.path())).expect("another secret");
}

#[test]
fn permissions_are_an_action_and_a_pattern() {
    for text in [
        "produce:*",
        "consume:a.*",
        "group:{sub}",
        "describe:a:b",
        "create:a",
        "alter:a",
        "delete:a",
        "transact:a",
        "admin:*",
    ] {
        read_permission(text).expect(text);
    }
    for text in [
        "",
        ":",
        "consume",
        "consume:",
        "Consume:*",
        "admin:",
        "admin:a",
        " consume:*",
    ] {
        read_permission(text).expect_err(text);
    }
}

#[test]
fn claims_and_times_are_held_to() {
    let loaded = load_lines(&with_set(&[
        "auth.permissions_claim=https://id.example/permissions",
        "auth.roles_claim=realm_access.roles",
        "auth.leeway_s=0",
        "auth.jwks_max_age_s=60",
        "auth.sse_ticket_ttl_s=60",
        "auth.allow_query_token=true",
    ]))
    .expect("the settings are sound");
    let auth = loaded.settings.auth;
    assert_eq!(
        auth.permissions_claim.as_deref(),
        Some("https://id.example/permissions")
    );
    assert_eq!(auth.roles_claim.as_deref(), Some("realm_access.roles"));
    assert_eq!(auth.leeway.as_secs(), 0);
    assert_eq!(auth.jwks_max_age.as_secs(), 60);
    assert_eq!(auth.sse_ticket_ttl.as_secs(), 60);
    assert!(auth.allow_query_token);
    for set in [
        "auth.roles_claim=",
        "auth.roles_claim=a..b",
        "auth.roles_claim=.a",
        "auth.roles_claim=a. ",
        "auth.roles_claim=[\"a\"]",
        "auth.leeway_s=3601",
        "auth.leeway_s=-1",
        "auth.jwks_max_age_s=0",
        "auth.sse_ticket_ttl_s=0",
        "auth.sse_ticket_ttl_s=604801",
        "auth.ticket_key_file=",
        "auth.ticket_key_file=[\"a\"]",
    ] {
        let line = complaint(&with_set(&[set]));
        assert!(line.contains(": expected "), "{set}: {line}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_keys() {
    let folder = folder_of_files("");
    let path = |name: &str| in_dir(&folder, &format!("{{dir}}/{name}"));
    std::fs::write(path("short"), "0123456789abcdef0123456789abcde\n\n").expect("written");
    std::fs::write(path("empty"), "").expect("written");
    let list = format!(
        "auth.issuers=[{{secret_file = '{}'}}, {{key_file = '{}'}}, {{secret_file = '{}'}}]",
        path("short"),
        path("empty"),
        path("."),
    );
    let set = [
        JWT.to_owned(),
        list,
        format!("tls.cert={}", path("missing")),
        format!("tls.key={}", path(".")),
        format!("tls.client_ca={}", path("missing")),
        format!("auth.ticket_key_file={}", path("short")),
    ];
    let lines = complaints(&with_set(&set.each_ref().map(String::as_str)));
    let expected = [
        ("tls.cert", "missing cannot be read: "),
        ("tls.key", "is not a regular file"),
        ("tls.client_ca", "missing cannot be read: "),
        (
            "auth.ticket_key_file",
            "short has 31 bytes: expected a secret of at least 32",
        ),
        (
            "auth.issuers[0].secret_file",
            "short has 31 bytes: expected a secret of at least 32",
        ),
        ("auth.issuers[1].key_file", "empty is empty"),
        ("auth.issuers[2].secret_file", "is not a regular file"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (key, problem)) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("{key} (flag --set): ")), "{line}");
        assert!(line.contains(problem), "{line}");
        assert!(!line.contains("0123456789"), "{line}");
    }
}

#[test]
fn a_secret_is_the_files_bytes_without_the_line_end() {
    let folder = folder_of_files("");
    let secret = read_secret(&folder.path().join("secret")).expect("the secret is sound");
    assert_eq!(secret.expose_secret(), b"9f86d081884c7d659a2feaa0c55ad015");
    assert!(!format!("{secret:?}").contains("9f86"));
    let long = folder.path().join("long");
    std::fs::write(&long, vec![b'a'; (64 << 10) + 1]).expect("written");
    let problem = read_secret(&long).expect_err("too long");
    assert!(problem.contains("has more than 65536 bytes"), "{problem}");
}

#[test]
fn issuers_are_shown_with_their_source() {
    let folder = folder_of_files(
        "auth.mode = \"jwt\"\n[[auth.issuers]]\nissuer = \"a \\\"b\\\"\"\naudience = \"c\"\npermissions_allowed = \"consume:a\"\nscope = false\nprincipal_claim = \"email\"\ntyp = \"at+jwt\"\nsecret_file = \"{dir}/secret\"\n\
         [[auth.issuers]]\njwks_url = \"https://id.example/keys\"\nalgorithms = [\"ES256\"]\n",
    );
    let loaded = load_lines(&in_folder(folder.path())).expect("the issuers are sound");
    let shown = show(&loaded);
    let line = shown.lines().find(|line| line.starts_with("auth.issuers"));
    let line = line.expect("the issuers are shown");
    let expected = "{ algorithms = [\"ES256\"], jwks_url = \"https://id.example/keys\" }]";
    assert!(line.contains(expected), "{line}");
    assert!(line.ends_with("  # file tidegate.toml line 2"), "{line}");
    assert!(!shown.contains("9f86d081"), "{shown}");

    // What is shown loads as the same.
    let again = load_text(&shown).expect("the output is sound");
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn topic_filters_are_read_and_shown() {
    let text = "[auth]\nmode = \"none\"\n\
         [[auth.topic_filters]]\ntopic = \"orders.*\"\nkey = \"{sub}\"\nheader.\"a.b\" = \"x\"\n\
         [[auth.topic_filters]]\ntopic = \"t\"\nwhere = '/a==\"{b}\"'\n";
    let loaded = load_text(text).expect("the filters are sound");
    let [first, second] = loaded.settings.auth.topic_filters.as_slice() else {
        panic!("{:?}", loaded.settings.auth.topic_filters);
    };
    assert_eq!(first.topic, "orders.*");
    assert_eq!(first.key.as_deref(), Some("{sub}"));
    assert_eq!(first.headers["a.b"], "x");
    assert_eq!(second.condition.as_deref(), Some("/a==\"{b}\""));
    let shown = show(&loaded);
    let line = shown.lines().find(|line| line.contains("topic_filters"));
    let line = line.expect("they are shown");
    assert!(line.contains("header.\"a.b\" = \"x\""), "{line}");
    let (value, _source) = line.rsplit_once("  # ").expect("its source");
    let again = with_set(&[&value.trim_end().replacen(" = ", "=", 1), "auth.mode=none"]);
    let again = load_lines(&again).expect("what is shown can be set");
    assert_eq!(again.settings.auth, loaded.settings.auth);
}

#[test]
fn topic_filters_that_say_nothing_are_refused_by_field() {
    for (text, expected) in [
        ("key = \"a\"", "auth.topic_filters[0] (file"),
        ("topic = \"t\"", "auth.topic_filters[0] (file"),
        (
            "topic = \"t/\"\nkey = \"a\"",
            "auth.topic_filters[0].topic (file",
        ),
        (
            "topic = \"t\"\nkey = \"\"",
            "auth.topic_filters[0].key (file",
        ),
        (
            "topic = \"t\"\nkeys = \"a\"",
            "auth.topic_filters[0].keys (file",
        ),
        (
            "topic = \"t\"\nheader = \"a\"",
            "auth.topic_filters[0].header (file",
        ),
        (
            "topic = \"t\"\nheader.a.b = \"c\"",
            "auth.topic_filters[0].header (file",
        ),
    ] {
        let text = format!("auth.mode = \"none\"\n[[auth.topic_filters]]\n{text}\n");
        let line = complaint_about_text(&text);
        assert!(line.starts_with(expected), "{line}");
    }
    let unasked = complaint_about_text("[[auth.topic_filters]]\ntopic = \"t\"\nkey = \"a\"\n");
    assert!(unasked.starts_with("auth.mode (default)"), "{unasked}");
}

#[test]
fn keyed_topics_have_a_partitioner() {
    let text = "[[streams.keyed_topics]]\ntopic = \"a\"\n\
         [[streams.keyed_topics]]\ntopic = \"b*\"\npartitioner = \"crc32\"\n";
    let loaded = load_text(text).expect("they are sound");
    let named: Vec<_> = loaded
        .settings
        .streams
        .keyed_topics
        .iter()
        .map(|keyed| (keyed.topic.as_str(), keyed.partitioner))
        .collect();
    let expected = [("a", Partitioner::Murmur2), ("b*", Partitioner::Crc32)];
    assert_eq!(named, expected);
    let line =
        complaint_about_text("[[streams.keyed_topics]]\ntopic = \"a\"\npartitioner = \"murmur\"\n");
    assert!(
        line.starts_with("streams.keyed_topics[0].partitioner (file"),
        "{line}"
    );
}

#[test]
fn tokens_are_handed_on_to_a_cluster_by_those_who_have_some() {
    const PASSTHROUGH: &str = "kafka.identity=passthrough";
    const CLUSTER: &str = "kafka.bootstrap_servers=kafka:9093";
    let about = |set: &[&str]| {
        let all = complaints(&with_set(set)).into_iter();
        let about: Vec<String> = all.filter(|line| line.contains("kafka.identity")).collect();
        about.join("\n")
    };
    // Whether Kafka's clients log in by token is judged with their properties.
    load_lines(&with_set(&[PASSTHROUGH, CLUSTER, JWT, JWKS])).expect("these belong together");
    let without_tokens = about(&[PASSTHROUGH, CLUSTER]);
    assert!(
        without_tokens.contains("expected auth.mode = \"jwt\""),
        "{without_tokens}"
    );
    let embedded = about(&[PASSTHROUGH, JWT, JWKS]);
    assert!(
        embedded.contains("the embedded broker takes none"),
        "{embedded}"
    );
    let folder = folder_of_files("");
    std::fs::write(folder.path().join("users"), "").expect("the file is written");
    let users = in_dir(&folder, "auth.users_file={dir}/users");
    let users = about(&[PASSTHROUGH, CLUSTER, JWT, JWKS, &users]);
    assert!(
        users.contains("those of auth.users_file have none"),
        "{users}"
    );
    let wrong = about(&["kafka.identity=somebody", CLUSTER]);
    assert!(
        wrong.contains("gateway") && wrong.contains("passthrough"),
        "{wrong}"
    );
}
