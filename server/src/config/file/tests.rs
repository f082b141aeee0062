use std::os::unix::fs::PermissionsExt as _;

use skytower_api_client::credentials::Secret;

use super::super::ActAs;
use super::*;

fn parse(text: &str) -> Result<FileConfig, String> {
    FileConfig::parse(Path::new("/etc/skytower.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn every_key_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "s3cret\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = "listen = '127.0.0.1:1'\nhome = 'state'\nidle_exit = '1h'\nothers = 'deny'\nengine = 'none'\n[source.prod]\nurl = 'https://sky/'\ntoken_file = 'token'\n[source.old]\nurl = 'http://old'\nuser = 'u'\npassword_file = 'token'\n";
    let read = FileConfig::parse(&folder.path().join("skytower.toml"), text).unwrap();
    assert_eq!(read.listen, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(read.home, Some(folder.path().join("state")));
    assert_eq!(read.idle_exit, Some(Duration::from_hours(1)));
    assert_eq!(read.others, Some(OthersPolicy::Deny));
    assert_eq!(read.engine, Some(false));
    let [old, prod] = &read.sources[..] else {
        panic!("{:?}", read.sources);
    };
    assert_eq!(prod.url, "https://sky");
    assert_eq!(prod.credentials, Credentials::Bearer(Secret::new("s3cret")));
    assert!(matches!(&old.credentials, Credentials::Basic { user, .. } if user == "u"));
    assert!(!format!("{read:?}").contains("s3cret"));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = FileConfig::parse(&folder.path().join("skytower.toml"), text).unwrap_err();
    assert!(error.message.contains("others can read"), "{error}");
    assert_eq!(error.line, Some(12));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("listen = 1", "/etc/skytower.toml:1: "),
        (
            "\nlisten = 'here'",
            ":2: `here` is no address with a port\nhint: ",
        ),
        (
            "idle_exit = 'soon'",
            ":1: `soon` is no span of time\nhint: ",
        ),
        ("lisen = 'x'", ":1: unknown field `lisen`, expected one of "),
        (
            "others = 'maybe'",
            ":1: unknown variant `maybe`, expected one of ",
        ),
        ("engine = 'cloud'", ":1: unknown variant `cloud`, expected "),
        (
            "listen = '127.0.0.1:1'\n[source.a]\nname = 'x'",
            ":3: unknown field `name`",
        ),
        ("[source.a]\n", ": missing field `url`"),
        (
            "[source.a]\nurl = 'ftp://x'",
            ":2: the address of source `a` has to begin with",
        ),
        (
            "[source.local]\nurl = 'http://x'",
            "that is the local engine",
        ),
        (
            "[source.a]\nurl = 'http://x'\nuser = 'u'",
            "source `a` has no password_file\nhint: ",
        ),
        (
            "[source.a]\nurl = 'http://x'\ntoken_file = '/no/such'",
            ":3: /no/such: cannot be read: ",
        ),
        ("= 1", ":1: "),
    ];
    for (text, part) in cases {
        let said = parse(text).unwrap_err();
        assert!(said.contains(part), "{text:?}: {said}");
    }
    assert_eq!(parse("").unwrap(), FileConfig::default());
}

/// The sample with everything that is a comment in it, and the files that it names.
fn sample() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display().to_string();
    for name in [
        "proxy.secret",
        "prod.token",
        "old.password",
        "key.pem",
        "fullchain.pem",
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, "s3cret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if key(rest) => rest.replace("/etc/skytower", &here),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    (folder, text)
}

#[test]
fn the_sample_is_all_comments_and_right_without_them() {
    assert_eq!(parse(SAMPLE).unwrap(), FileConfig::default());
    let (folder, text) = sample();
    let read = FileConfig::parse(&folder.path().join("skytower-server.toml"), &text).unwrap();
    let [old, prod] = &read.sources[..] else {
        panic!("{:?}", read.sources);
    };
    assert!(prod.sign_in && old.act_as == ActAs::Caller);
    let proxy = read.proxy.unwrap();
    assert_eq!(proxy.secret, Some(Secret::new("s3cret")));
    assert_eq!((proxy.addresses.len(), proxy.role), (2, Role::Viewer));
    assert_eq!(read.hosts, ["tower.example.com"]);
    assert_eq!(read.tls.unwrap().key, folder.path().join("key.pem"));
    // What holds without is what the sample says.
    let usual = super::super::Config::default();
    assert_eq!(read.audit_keep, Some(usual.audit_keep()));
    assert_eq!(read.others, Some(usual.others));
    assert_eq!(
        read.limits,
        Limits {
            connections: Some(768),
            strangers: Some(192),
            ..usual.limits
        }
    );
}

#[test]
fn every_key_that_there_is_stands_in_the_sample() {
    let (_folder, text) = sample();
    let sample: toml::Table = toml::from_str(&text).unwrap();
    let table = |path: &[&str]| {
        path.iter().fold(&sample, |table, name| {
            table.get(*name).and_then(toml::Value::as_table).unwrap()
        })
    };
    let mut source = table(&["source", "prod"]).clone();
    source.extend(table(&["source", "old"]).clone());
    for (head, present) in [
        ("", &sample),
        ("[tls]", table(&["tls"])),
        ("[proxy]", table(&["proxy"])),
        ("[limits]", table(&["limits"])),
        ("[source.a]", &source),
    ] {
        // serde lists them all when one is wrong.
        let said = parse(&format!("{head}\nzzz = 1")).unwrap_err();
        let (_, expected) = said.split_once("expected one of ").unwrap_or_else(|| {
            let (_, expected) = said.split_once("expected ").expect(&said);
            ("", expected)
        });
        let keys: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() > 1, "{said}");
        for key in keys {
            assert!(
                present.contains_key(key),
                "{head} {key} is not in the sample"
            );
        }
    }
}

#[test]
fn what_is_wrong_with_the_doors_is_told_with_its_line() {
    let cases = [
        (
            "\nhosts = ['https://a']",
            ":2: `https://a` cannot be the name of a host",
        ),
        (
            "audit_keep = 'long'",
            ":1: `long` is no span of time\nhint: ",
        ),
        (
            "[proxy]\naddresses = ['here']",
            ":2: `here` is no address of a proxy\nhint: write it as",
        ),
        (
            "\n[proxy]\naddresses = []",
            ":2: the proxy has no addresses",
        ),
        ("[proxy]\naddresses = ['0.0.0.0/0']", "would be anybody"),
        (
            "[proxy]\naddresses = ['::1']\nuser_header = 'X-User'",
            "secret_file",
        ),
        (
            "[proxy]\naddresses = ['::1']\nrole = 'admin'",
            ":3: unknown variant `admin`",
        ),
        ("[limits]\nstrangers = 0", ":1: the limit `strangers` is 0"),
        ("[limits]\nstrangers = -1", ":2: "),
        ("[tls]\ncertificate = 'x'", "missing field `key`"),
        (
            "[tls]\ncertificate = '/no/such'\nkey = 'x'",
            ":2: /no/such: cannot be read: ",
        ),
        (
            "[source.a]\nurl = 'http://x'\nact_as = 'root'",
            ":3: unknown variant `root`",
        ),
    ];
    for (text, part) in cases {
        let said = parse(text).unwrap_err();
        assert!(said.contains(part), "{text:?}: {said}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("skytower-server.toml");
    for name in ["c.pem", "k.pem"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let read = |mode| {
        let key = folder.path().join("k.pem");
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(mode)).unwrap();
        FileConfig::parse(&at, "[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'")
    };
    assert!(read(0o600).is_ok());
    // How Debian's ssl-cert and Kubernetes' fsGroup share a key with the one service that needs it.
    assert!(read(0o640).is_ok());
    for mode in [0o644, 0o604, 0o660] {
        let error = read(mode).unwrap_err();
        assert_eq!(error.line, Some(3), "{mode:o}");
        assert!(error.message.contains("others can read the key"), "{error}");
        assert!(error.hint.unwrap().starts_with("chmod 600 "));
    }
}
