//! Files that are moved away, queues that are full, texts without end.

use super::*;

fn entry(resource: &str) -> Entry {
    Entry {
        time: jiff::Timestamp::now(),
        origin: Arc::new(Origin {
            request_id: "r-1".to_owned(),
            address: Some("192.0.2.1".parse().unwrap()),
            method: "GET".to_owned(),
            path: "/topics".to_owned(),
        }),
        principal: Some(Who {
            known_by: "token",
            issuer: "https://id.example".to_owned(),
            name: "ann".to_owned(),
        }),
        action: "consume",
        kind: "topic",
        resource: resource.to_owned(),
        allowed: true,
        reason: "by consume:*".to_owned(),
    }
}

fn open(path: &Path) -> Audit {
    Audit::open(&AuditTo::File(path.to_owned()))
        .unwrap()
        .unwrap()
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_entry_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let audit = open(&path);
    audit.record(entry("orders"));
    audit.record(Entry {
        principal: None,
        allowed: false,
        ..entry("a \"name\"\nwith all that breaks lines")
    });
    audit.flush(BOUND).await;
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    let time = lines[0]["time"].as_str().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    for (field, expected) in [
        ("request_id", "r-1"),
        ("address", "192.0.2.1"),
        ("method", "GET"),
        ("path", "/topics"),
        ("principal", "ann"),
        ("known_by", "token"),
        ("issuer", "https://id.example"),
        ("action", "consume"),
        ("kind", "topic"),
        ("resource", "orders"),
        ("reason", "by consume:*"),
    ] {
        assert_eq!(lines[0][field], expected, "{field}");
    }
    assert_eq!(lines[0]["allowed"], true);
    assert!(lines[1]["principal"].is_null());
    assert_eq!(
        lines[1]["resource"],
        "a \"name\"\nwith all that breaks lines"
    );
    let mode = std::fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "nobody else may read it");
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let old = folder.path().join("audit.log.1");
    let audit = open(&path);
    audit.record(entry("before"));
    audit.flush(BOUND).await;
    std::fs::rename(&path, &old).unwrap();
    audit.record(entry("after"));
    audit.flush(BOUND).await;
    assert_eq!(lines(&old).len(), 1);
    assert_eq!(lines(&path)[0]["resource"], "after");
    // Where it cannot be opened, the old one takes what comes.
    std::fs::rename(&path, &old).unwrap();
    std::fs::create_dir(&path).unwrap();
    audit.record(entry("nowhere else"));
    audit.flush(BOUND).await;
    assert_eq!(lines(&old)[1]["resource"], "nowhere else");
}

#[tokio::test]
async fn what_is_lost_is_counted_where_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (sender, mut receiver) = mpsc::channel(2);
    let audit = Audit {
        sender,
        lost: Arc::default(),
    };
    // Nobody writes yet.
    for _ in 0..5 {
        audit.record(entry("orders"));
    }
    let mut scribe = Scribe {
        output: Output::File(LogFile::open(&path).unwrap()),
        lost: Arc::clone(&audit.lost),
        warned: None,
    };
    let mut messages = Vec::new();
    receiver.recv_many(&mut messages, BATCH).await;
    scribe.write(&mut messages, &mut Vec::new());
    let lines = lines(&path);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["lost"], 3);
    assert_eq!(lines[2]["resource"], "orders");
}

#[test]
fn what_cannot_be_written_is_told_when_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = LogFile::open(&path).unwrap();
    file.file = File::open(&path).unwrap();
    let mut scribe = Scribe {
        output: Output::File(file),
        lost: Arc::default(),
        warned: None,
    };
    let write = |scribe: &mut Scribe| {
        let mut messages = vec![Message::Entry(Box::new(entry("orders")))];
        scribe.write(&mut messages, &mut Vec::new());
    };
    write(&mut scribe);
    write(&mut scribe);
    // A new file is opened as it should be.
    std::fs::remove_file(&path).unwrap();
    write(&mut scribe);
    let lines = lines(&path);
    assert_eq!(lines[0]["lost"], 2);
    assert_eq!(lines[1]["resource"], "orders");
    assert_eq!(lines.len(), 2);
}

#[test]
fn no_line_grows_with_what_it_tells_of() {
    let mut lines = Vec::new();
    push(&mut lines, &Line::of(&entry(&"ü".repeat(100_000))));
    assert!(lines.len() < 2048, "{}", lines.len());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none/audit")] {
        let error = Audit::open(&AuditTo::File(path.clone())).unwrap_err();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    assert!(Audit::open(&AuditTo::Off).unwrap().is_none());
}
