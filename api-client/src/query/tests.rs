use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::entity::{Cluster, Job, Owner};
use crate::phase::{Phase, phase_of};
use crate::time::EpochMs;
use crate::wire::Caller;

fn context() -> Context {
    Context {
        now: EpochMs(100 * 3_600_000),
        caller: Caller {
            ids: vec!["2f1c".into()],
            name: "alice".into(),
            ..Caller::default()
        },
        ..Context::default()
    }
}

fn job(
    id: i64,
    name: &str,
    owner: &str,
    status: &str,
    gpus: Option<f64>,
    age_h: i64,
) -> Arc<Entity> {
    Job {
        key: crate::Key::new("prod", Kind::Job, format!("{id}/0")),
        job_id: id,
        name: name.into(),
        job_name: name.into(),
        owner: Some(Owner {
            id: if owner == "alice" { "2f1c" } else { "beef" }.into(),
            name: owner.into(),
        }),
        status: status.into(),
        phase: phase_of(Kind::Job, status),
        gpus,
        accelerators: gpus.map(|_| "A100:8".into()),
        infra: Some("Slurm (lab)".into()),
        submitted_at: Some(EpochMs((100 - age_h) * 3_600_000)),
        why: (status == "FAILED").then(|| "exit 137: no space left on device".into()),
        ..Job::default()
    }
    .into()
}

fn rows() -> Vec<Arc<Entity>> {
    vec![
        job(1, "sweep-lr-1", "alice", "RUNNING", Some(8.0), 1),
        job(2, "Sweep-lr-2", "bob", "FAILED", Some(16.0), 5),
        job(3, "eval", "bobby", "FAILED_SETUP", None, 50),
        job(12, "tokenize", "alice", "SUCCEEDED", None, 90),
    ]
}

fn found(query: &str) -> Vec<i64> {
    let query = Query::parse(query, Kind::Job).unwrap_or_else(|why| panic!("{query}: {why:?}"));
    rows()
        .iter()
        .filter(|row| query.matches(row, &context()))
        .map(|row| row.as_job().unwrap().job_id)
        .collect()
}

#[test]
fn each_way_to_ask_finds_what_it_should() {
    for (query, expected) in [
        ("", &[1, 2, 3, 12][..]),
        ("sweep", &[1, 2]),
        ("Sweep", &[2]),
        ("a100", &[1, 2]),
        ("space", &[2]),
        ("lab", &[1, 2, 3, 12]),
        ("12", &[12]),
        ("sw*lr", &[1, 2]),
        ("-sweep", &[3, 12]),
        ("!sweep !eval", &[12]),
        ("~^sweep-lr-[0-9]$", &[1, 2]),
        ("name~^eval$", &[3]),
        ("f:tknz", &[12]),
        ("-f tknz", &[12]),
        ("owner:bob", &[2]),
        ("owner:bob*", &[2, 3]),
        ("owner:bob,bobby", &[2, 3]),
        ("owner=bob", &[2]),
        ("-l owner=bob", &[2]),
        ("owner:beef", &[2, 3]),
        ("owner!=bob", &[1, 3, 12]),
        ("@me", &[1, 12]),
        ("owner:@me", &[1, 12]),
        ("-@me", &[2, 3]),
        ("user:@me,bob", &[1, 2, 12]),
        ("phase:failed", &[2, 3]),
        ("status:failed", &[2]),
        ("status:failed*", &[2, 3]),
        ("status:starting", &[]),
        ("STATUS:Running", &[1]),
        ("gpus>=8", &[1, 2]),
        ("gpu>8", &[2]),
        ("gpus:8", &[1]),
        ("gpus:A100", &[1, 2]),
        ("gpus:-", &[3, 12]),
        ("gpus:*", &[1, 2]),
        ("age<2h", &[1]),
        ("age>=5h age<3d", &[2, 3]),
        ("age>2h40", &[2, 3, 12]),
        ("id:12", &[12]),
        ("id>2", &[3, 12]),
        ("where:slurm", &[1, 2, 3, 12]),
        ("infra:\"Slurm (lab)\"", &[1, 2, 3, 12]),
        ("(eval or tokenize) -@me", &[3]),
        ("eval or owner:bob and sweep", &[2, 3]),
        ("-(eval or tokenize)", &[1, 2]),
        ("why:\"no space left\"", &[2]),
        ("\"or\"", &[]),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
}

#[test]
fn a_phase_word_as_status_means_the_phase_where_the_kind_has_no_such_word() {
    let up: Entity = Cluster {
        status: "UP".into(),
        phase: Phase::Running,
        memory: Some("96+".into()),
        ..Cluster::default()
    }
    .into();
    for (query, expected) in [
        ("status:running", true),
        ("status:up", true),
        ("status:stopped", false),
        ("memory>80G", true),
        ("mem>0.5T", false),
        ("controller:no", true),
    ] {
        let query = Query::parse(query, Kind::Cluster).unwrap();
        assert_eq!(query.matches(&up, &context()), expected, "{query}");
    }
}

#[test]
fn mistakes_are_marked_where_they_are() {
    for (query, marked, message, hint) in [
        ("a onwer:bob", "onwer", "have no field `onwer`", "`owner`"),
        ("zebra:1", "zebra", "have no field", "fields are id, name"),
        ("(a or b", "(", "no `)`", ""),
        ("a) b", ")", "no `(`", ""),
        ("a or", "or", "both sides", ""),
        ("name:\"x", "\"x", "not closed", ""),
        ("owner:", "owner:", "needs a value", ""),
        ("gpus>=many", "many", "is not a number", "gpus>=8"),
        ("age<banana", "banana", "is not a duration", "age<2h"),
        ("age:2h", "2h", "is compared with", "age<2h"),
        ("name>3", "3", "cannot be compared", "name:word"),
        ("phase:runing", "runing", "is not a phase", "`running`"),
        ("~a(", "a(", "is not a regular expression", ""),
        ("name:@me", "@me", "is a person", ""),
        ("-", "-", "nothing to exclude", ""),
    ] {
        let problem = Query::parse(query, Kind::Job).unwrap_err();
        assert_eq!(&query[problem.at.clone()], marked, "{query}: {problem:?}");
        assert!(problem.message.contains(message), "{query}: {problem:?}");
        let given = problem.hint.clone().unwrap_or_default();
        assert!(given.contains(hint), "{query}: {problem:?}");
    }
}

#[test]
fn an_address_is_a_word() {
    assert!(Query::parse("https://10.2.0.7", Kind::Service).is_ok());
    assert!(Query::parse("s3://bucket", Kind::Job).is_ok());
}

#[test]
fn fields_and_values_are_completed() {
    let rows = rows();
    let suggest = |input: &str| -> Vec<String> {
        complete(input, input.len(), Kind::Job, &rows, &context())
            .into_iter()
            .map(|suggestion| format!("{}{}", &input[..suggestion.replaces.start], suggestion.text))
            .collect()
    };
    assert_eq!(suggest("eval sta"), ["eval status:", "eval started<"]);
    assert_eq!(suggest("-ow"), ["-owner:"]);
    assert_eq!(suggest("owner:b"), ["owner:bob", "owner:bobby"]);
    assert_eq!(suggest("owner:bob,@"), ["owner:bob,@me"]);
    assert_eq!(suggest("infra:"), ["infra:\"Slurm (lab)\""]);
    assert_eq!(suggest("(phase:suc"), ["(phase:succeeded"]);
    assert!(suggest("status:").contains(&"status:FAILED_CONTROLLER".to_owned()));
    assert!(complete("é", 1, Kind::Job, &rows, &context()).len() > 5);
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._*-]{1,8}",
        "\\PC{0,6}",
        Just("or".to_owned()),
        Just("-".to_owned()),
        Just("@me".to_owned()),
    ]
}

fn tree() -> impl Strategy<Value = ast::Node> {
    use ast::{At, Node, Op};
    let op = prop_oneof![
        Just(Op::Less),
        Just(Op::LessOrEqual),
        Just(Op::More),
        Just(Op::MoreOrEqual)
    ];
    let field = |name: &str, values: Vec<String>| Node::Field {
        name: name.to_owned(),
        name_at: At::default(),
        values: values.into_iter().map(|v| (v, At::default())).collect(),
    };
    let leaf = prop_oneof![
        word().prop_map(Node::Word),
        word()
            .prop_filter("not empty", |w| !w.is_empty())
            .prop_map(Node::Fuzzy),
        word()
            .prop_filter("not empty", |w| !w.is_empty())
            .prop_map(|w| Node::Regex(regex::escape(&w), At::default())),
        Just(Node::Me),
        prop::collection::vec(word(), 1..3).prop_map(move |values| field("owner", values)),
        (op, 0u32..100).prop_map(|(op, n)| Node::Compare {
            name: "gpus".to_owned(),
            name_at: At::default(),
            op,
            value: n.to_string(),
            at: At::default(),
        }),
    ];
    // As the parser builds them: no group of one, no double negation.
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::Or),
            inner.prop_map(|node| match node {
                Node::Not(_) => node,
                node => Node::Not(Box::new(node)),
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_it_was(tree in tree()) {
        let written = tree.to_string();
        let read = parse::parse(&written);
        prop_assert_eq!(read.as_ref().ok(), Some(&tree), "{}: {:?}", written, read);
        let query = Query::parse(&written, Kind::Job);
        prop_assert!(query.is_ok(), "{}: {:?}", written, query);
    }

    #[test]
    fn no_input_breaks_it(input in "\\PC{0,40}|[ ()\"a-c:,<>=~!@f*|-]{0,30}", cursor in 0usize..60) {
        match Query::parse(&input, Kind::Job) {
            Ok(query) => {
                for row in rows() {
                    let _ = query.matches(&row, &context());
                }
                let again = Query::parse(&query.to_string(), Kind::Job);
                prop_assert_eq!(again.as_ref().ok(), Some(&query), "{}", query);
            }
            Err(problem) => prop_assert!(input.get(problem.at.clone()).is_some(), "{:?}", problem),
        }
        complete(&input, cursor, Kind::Job, &rows(), &context());
    }

    #[test]
    fn letters_of_any_script_are_found_without_regard_to_case(hay in "[a-zA-ZäÖßİé ]{0,12}", from in 0usize..12, len in 1usize..6) {
        let piece: String = hay.chars().skip(from).take(len).collect();
        prop_assume!(!piece.is_empty());
        prop_assert!(needle::Needle::folded(&piece).is_in(&hay), "{piece} in {hay}");
        prop_assert!(needle::Needle::folded(&format!("*{piece}*")).is(&hay), "{piece} in {hay}");
    }
}

#[test]
fn without_the_letter_of_an_option_of_k9s() {
    for letter in ["f", "l"] {
        let tree = ast::Node::Not(Box::new(ast::Node::Word(letter.to_owned())));
        assert_eq!(parse::parse(&tree.to_string()).unwrap(), tree);
    }
}
