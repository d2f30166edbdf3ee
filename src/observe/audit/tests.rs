//! Files that are moved away, queues that are full, texts without end.

use super::*;

fn entry(resource: &str) -> Entry {
    Entry {
        time: jiff::Timestamp::now(),
        origin: Arc::new(Origin {
            request_id: "r-1".to_owned(),
            gateway_id: "g-1".to_owned(),
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

fn to(audit: AuditTo) -> TelemetrySettings {
    TelemetrySettings {
        audit,
        ..TelemetrySettings::default()
    }
}

fn open(path: &Path) -> Audit {
    Audit::open(&to(AuditTo::File(path.to_owned())))
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
        ("gateway_id", "g-1"),
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

fn audit(sender: mpsc::Sender<Message>, required: bool) -> Audit {
    Audit {
        sender,
        lost: Arc::default(),
        shares: Arc::new(Shares::new()),
        required,
        authentications: false,
        failing: Arc::default(),
    }
}

fn scribe(audit: &Audit, file: LogFile) -> Scribe {
    Scribe {
        output: Output::File(file),
        lost: Arc::clone(&audit.lost),
        shares: Arc::clone(&audit.shares),
        required: audit.required,
        failing: Arc::clone(&audit.failing),
        warned: None,
    }
}

/// One that cannot be written to, until another stands in its place.
fn broken(path: &Path) -> LogFile {
    let mut file = LogFile::open(path).unwrap();
    file.file = File::open(path).unwrap();
    file
}

#[tokio::test]
async fn nobody_has_more_than_a_share_of_the_queue() {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let audit = audit(sender, false);
    let of = |name: &str| Entry {
        principal: Some(Who {
            known_by: "token",
            issuer: "https://id.example".to_owned(),
            name: name.to_owned(),
        }),
        ..entry("orders")
    };
    for _ in 0..QUEUE {
        audit.record(of("ann"));
    }
    let share = u64::from(SHARE);
    assert_eq!(audit.lost.load(Ordering::Relaxed), QUEUE as u64 - share);
    // Of some names one may meet her by chance, of these few not all.
    let others = ["bob", "eve", "joe", "kim"];
    let heard = others.iter().filter(|name| {
        audit.record(of(name));
        audit.lost.load(Ordering::Relaxed) == QUEUE as u64 - share
    });
    assert!(heard.count() > 0);
    // Nobody is known by an address, which has a share of its own.
    let stranger = Entry {
        principal: None,
        allowed: false,
        ..entry("orders")
    };
    assert_ne!(audit.shares.of(&stranger), usize::MAX);
    // What is written makes room again.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut scribe = scribe(&audit, LogFile::open(&path).unwrap());
    let mut messages = Vec::new();
    receiver.recv_many(&mut messages, BATCH).await;
    scribe.write(&mut messages, &mut Vec::new());
    let lost = audit.lost.load(Ordering::Relaxed);
    audit.record(of("ann"));
    assert_eq!(audit.lost.load(Ordering::Relaxed), lost);
}

#[tokio::test]
async fn where_it_is_required_nothing_is_allowed_while_it_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (sender, receiver) = mpsc::channel(QUEUE);
    let audit = audit(sender, true);
    let scribe = scribe(&audit, broken(&path));
    assert!(audit.record(entry("first")));
    let writes = std::thread::spawn(move || scribe.run(receiver));
    let until = async |ready: bool| {
        tokio::time::timeout(BOUND, async {
            while audit.is_ready() != ready {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    };
    until(false).await;
    assert!(!audit.record(entry("refused")));
    // A disk that has room again, or here a file that can be written to.
    std::fs::remove_file(&path).unwrap();
    until(true).await;
    assert!(audit.record(entry("second")));
    drop(audit);
    writes.join().unwrap();
    let lines = lines(&path);
    let resources: Vec<_> = lines.iter().map(|line| &line["resource"]).collect();
    assert_eq!(resources, ["first", "second"], "{lines:?}");
}

#[tokio::test]
async fn where_it_is_required_a_full_queue_refuses() {
    let (sender, _receiver) = mpsc::channel(2);
    let audit = audit(sender, true);
    assert!(audit.record(entry("first")));
    assert!(audit.record(entry("second")));
    assert!(!audit.is_ready());
    assert!(!audit.record(entry("third")));
}

#[tokio::test]
async fn what_is_lost_is_counted_where_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (sender, mut receiver) = mpsc::channel(2);
    let audit = audit(sender, false);
    // Nobody writes yet.
    for _ in 0..5 {
        assert!(audit.record(entry("orders")));
    }
    let mut scribe = scribe(&audit, LogFile::open(&path).unwrap());
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
    let (sender, _receiver) = mpsc::channel(1);
    let audit = audit(sender, false);
    let mut scribe = scribe(&audit, broken(&path));
    let write = |scribe: &mut Scribe| {
        let entry = entry("orders");
        let share = audit.shares.of(&entry);
        assert!(audit.shares.take(share));
        let mut messages = vec![Message::Entry(share, Box::new(entry))];
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
fn long_names_that_begin_alike_are_told_apart() {
    let name = |end: &str| format!("{}{end}", "n".repeat(TEXT));
    assert_eq!(short(&"n".repeat(TEXT)), "n".repeat(TEXT));
    let (one, other) = (name("1"), name("2"));
    let (one, other) = (short(&one), short(&other));
    assert_ne!(one, other);
    for short in [one, other] {
        let (beginning, hash) = short.split_once("…sha256:").unwrap();
        assert_eq!((beginning.len(), hash.len()), (TEXT, 2 * HASH));
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none/audit")] {
        let error = Audit::open(&to(AuditTo::File(path.clone()))).unwrap_err();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    assert!(Audit::open(&to(AuditTo::Off)).unwrap().is_none());
}
