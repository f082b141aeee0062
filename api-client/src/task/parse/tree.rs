//! From text to trees: YAML with the line of everything in it.
//!
//! A task file can come from anybody, so that what it may cost is bounded before anything is built: its
//! size, its depth, and how much aliases repeat.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScanError, Span, StrInput, Tag};

use super::super::names::is_variable_name;
use super::report::Report;

/// Task files have a few kilobytes.
const LARGEST: usize = 1 << 20;

/// How deep lists and mappings may lie in each other, aliases included.
const DEEPEST: usize = 64;

/// How many values a file may have, what aliases repeat included.
const MOST: usize = 100_000;

/// How many bytes of text aliases may repeat.
const REPEATED: usize = 4 << 20;

// What they name is not said: it may be a password that nobody put in quotation marks.
const NO_ANCHOR: &str = "`*` repeats what `&` named before it, and nothing did; text that begins with `*` must be in quotation marks";
const NO_TAG: &str =
    "a tag (`!…`) means nothing here; text that begins with `!` must be in quotation marks";

/// A value, and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) line: usize,
    /// It has an anchor or came from one. The same value may be that of a secret, so messages do not quote it.
    pub(super) shared: bool,
    pub(super) value: Value<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Node<'a>>),
    Map(Vec<Pair<'a>>),
}

/// Text that may mean a number, a yes or a no, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    /// Without quotes: what it means depends on how it looks.
    pub(super) plain: bool,
}

/// An entry of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Pair<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) line: usize,
    pub(super) node: Node<'a>,
}

/// The documents of a file in their order. One that is not YAML is left out, after its mistake was noted.
pub(super) fn documents<'a>(text: &'a str, report: &mut Report) -> Vec<Node<'a>> {
    if text.len() > LARGEST {
        let size = text.len() / 1024;
        report.add(
            None,
            "",
            format!("{size} KB are too much for a task file; at most 1024 KB are read"),
        );
        return Vec::new();
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEEPEST;
    options.block_nesting_limit = DEEPEST;
    // As PyYAML: a script whose last line has no line break gets none.
    options.block_scalar_eof_without_line_feed = true;
    // So that the rest of the document is looked at as well.
    options.emit_unresolved_aliases = true;
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::new(report);
    loop {
        match parser.next_event() {
            Some(Ok((event, span))) => {
                if builder.take(event, &span).is_err() {
                    return builder.documents;
                }
            }
            Some(Err(error)) => {
                builder.broken(&error);
                if !next_document(&mut parser) {
                    return builder.documents;
                }
            }
            None => return builder.documents,
        }
    }
}

fn next_document<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> bool {
    parser.proceed_next_document().unwrap_or(false)
}

/// The file asks for more than can be given; nothing further is read.
struct TooMuch;

/// A list or mapping that has not ended.
struct Open<'a> {
    node: Node<'a>,
    anchor: usize,
    slot: Slot<'a>,
}

/// What comes next in a mapping.
enum Slot<'a> {
    Key,
    Value(Cow<'a, str>, usize, bool),
    /// The value of a key that cannot be one.
    Nothing,
}

struct Builder<'a, 'r> {
    report: &'r mut Report,
    documents: Vec<Node<'a>>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    values: usize,
    repeated: usize,
}

impl<'a, 'r> Builder<'a, 'r> {
    fn new(report: &'r mut Report) -> Self {
        Self {
            report,
            documents: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            values: 0,
            repeated: 0,
        }
    }

    fn take(&mut self, event: Event<'a>, span: &Span) -> Result<(), TooMuch> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.open.clear();
                self.anchors.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = match self.tag(tag.as_deref(), line) {
                    Tagged::Text => false,
                    Tagged::AsItLooks => style == granit_parser::ScalarStyle::Plain,
                };
                self.count(1, 0, line)?;
                let node = Node {
                    line,
                    shared: anchor != 0,
                    value: Value::Scalar(Scalar { text, plain }),
                };
                self.place(node, anchor, plain);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), line);
                self.begin(Value::List(Vec::new()), anchor, line)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), line);
                self.begin(Value::Map(Vec::new()), anchor, line)?;
            }
            Event::SequenceEnd => {
                if let Some(ended) = self.open.pop() {
                    self.place(ended.node, ended.anchor, false);
                }
            }
            Event::MappingEnd => {
                if let Some(ended) = self.open.pop() {
                    let Open {
                        mut node, anchor, ..
                    } = ended;
                    if let Value::Map(pairs) = node.value {
                        node.value = Value::Map(self.once(pairs));
                    }
                    self.place(node, anchor, false);
                }
            }
            Event::Alias(anchor) => self.repeat(anchor, line)?,
            Event::UnresolvedAlias(_) => {
                let field = self.path();
                self.report.add(Some(line), &field, NO_ANCHOR);
                self.place(nothing(line), 0, false);
            }
            _ => {}
        }
        Ok(())
    }

    /// A document is not YAML.
    fn broken(&mut self, error: &ScanError) {
        self.open.clear();
        self.anchors.clear();
        let marker = error.marker();
        self.report.add(
            Some(marker.line().max(1)),
            "",
            format!("{} (column {})", said(error.kind()), marker.col() + 1),
        );
    }

    fn count(&mut self, values: usize, repeated: usize, line: usize) -> Result<(), TooMuch> {
        self.values += values;
        self.repeated += repeated;
        if self.values <= MOST && self.repeated <= REPEATED {
            return Ok(());
        }
        self.report.add(
            Some(line),
            "",
            format!("more than {MOST} values, or too much repeated by aliases: not a task file"),
        );
        Err(TooMuch)
    }

    fn begin(&mut self, value: Value<'a>, anchor: usize, line: usize) -> Result<(), TooMuch> {
        self.count(1, 0, line)?;
        self.open.push(Open {
            node: Node {
                line,
                shared: anchor != 0,
                value,
            },
            anchor,
            slot: Slot::Key,
        });
        Ok(())
    }

    fn tag(&mut self, tag: Option<&Tag>, line: usize) -> Tagged {
        let Some(tag) = tag else {
            return Tagged::AsItLooks;
        };
        match tag.core_suffix() {
            Some("str") => return Tagged::Text,
            Some("null" | "bool" | "int" | "float" | "timestamp" | "seq" | "map") => {}
            _ if tag.original() == "!" => return Tagged::Text,
            _ => {
                let field = self.path();
                self.report.add(Some(line), &field, NO_TAG);
            }
        }
        Tagged::AsItLooks
    }

    /// Puts a value that is complete where it belongs.
    fn place(&mut self, node: Node<'a>, anchor: usize, plain: bool) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let field = match self.open.last() {
            Some(Open {
                slot: Slot::Key, ..
            }) if !matches!(node.value, Value::Scalar(_)) => self.path(),
            _ => String::new(),
        };
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return;
        };
        match &mut open.node.value {
            Value::List(list) => list.push(node),
            Value::Map(pairs) => match std::mem::replace(&mut open.slot, Slot::Key) {
                Slot::Key => match node.value {
                    Value::Scalar(scalar) => {
                        open.slot = Slot::Value(scalar.text, node.line, plain);
                    }
                    Value::List(_) | Value::Map(_) => {
                        open.slot = Slot::Nothing;
                        let message = "a list or mapping cannot name a field";
                        self.report.add(Some(node.line), &field, message);
                    }
                },
                Slot::Value(key, line, plain) => {
                    let key = if key == "<<" && !plain {
                        // In quotes it is a name like any other; unknown, so that it is told.
                        Cow::Borrowed("\"<<\"")
                    } else {
                        key
                    };
                    pairs.push(Pair { key, line, node });
                }
                Slot::Nothing => {}
            },
            Value::Scalar(_) => {}
        }
    }

    /// Puts a copy of what an anchor names.
    fn repeat(&mut self, anchor: usize, line: usize) -> Result<(), TooMuch> {
        let field = self.path();
        if let Some(Open {
            node: Node {
                value: Value::Map(_),
                ..
            },
            slot: slot @ Slot::Key,
            ..
        }) = self.open.last_mut()
        {
            *slot = Slot::Nothing;
            let message = "an alias cannot name a field";
            self.report.add(Some(line), &field, message);
            return Ok(());
        }
        let Some(named) = self.anchors.get(&anchor) else {
            self.report
                .add(Some(line), &field, "an alias of what it is a part of");
            self.place(nothing(line), 0, false);
            return Ok(());
        };
        let size = Size::of(named);
        if self.open.len() + size.depth > DEEPEST {
            let message = format!("more than {DEEPEST} lists and mappings in each other");
            self.report.add(Some(line), &field, message);
            return Err(TooMuch);
        }
        self.count(size.values, size.bytes, line)?;
        let Some(named) = self.anchors.get(&anchor) else {
            return Ok(());
        };
        let mut copy = named.clone();
        share(&mut copy);
        self.place(copy, 0, false);
        Ok(())
    }

    /// The entries of a mapping with those that it merges (`<<: *base`), each name once.
    fn once(&mut self, pairs: Vec<Pair<'a>>) -> Vec<Pair<'a>> {
        let mut lines: HashMap<Cow<'a, str>, usize> = HashMap::with_capacity(pairs.len());
        let mut own = Vec::with_capacity(pairs.len());
        let mut merged = Vec::new();
        for pair in pairs {
            if pair.key == "<<" {
                match pair.node.value {
                    Value::Map(pairs) => merged.push(pairs),
                    Value::List(list)
                        if list.iter().all(|node| matches!(node.value, Value::Map(_))) =>
                    {
                        merged.extend(list.into_iter().filter_map(|node| match node.value {
                            Value::Map(pairs) => Some(pairs),
                            _ => None,
                        }));
                    }
                    _ => {
                        let field = self.path_of("<<");
                        let message = "only a mapping, or a list of them, can be merged";
                        self.report.add(Some(pair.line), &field, message);
                    }
                }
                continue;
            }
            if let Some(first) = lines.get(&pair.key) {
                let field = self.path_of(&pair.key);
                let message = format!("is given twice; line {first} has it already");
                self.report.add(Some(pair.line), &field, message);
                continue;
            }
            lines.insert(pair.key.clone(), pair.line);
            own.push(pair);
        }
        for pair in merged.into_iter().flatten() {
            if lines.insert(pair.key.clone(), pair.line).is_none() {
                own.push(pair);
            }
        }
        own
    }

    /// The field that is being read, with its parents.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match (&open.node.value, &open.slot) {
                (Value::List(list), _) => path.push_str(&format!("[{}]", list.len())),
                (_, Slot::Value(key, ..)) => path = below(&path, key),
                _ => {}
            }
        }
        path
    }

    fn path_of(&self, key: &str) -> String {
        below(&self.path(), key)
    }
}

enum Tagged {
    Text,
    AsItLooks,
}

/// The name of a field of `parent`, with its parents.
pub(super) fn below(parent: &str, key: &str) -> String {
    // What is not the name of a variable may be a value that slipped: `TOKEN=abc`.
    if ["envs", "secrets"].contains(&parent) && !is_variable_name(key) {
        return parent.to_owned();
    }
    // Whoever reads the message knows a long one by its start.
    let short: String = key.chars().take(60).collect();
    if parent.is_empty() {
        short
    } else {
        format!("{parent}.{short}")
    }
}

fn nothing<'a>(line: usize) -> Node<'a> {
    Node {
        line,
        shared: false,
        value: Value::Scalar(Scalar {
            text: Cow::Borrowed(""),
            plain: true,
        }),
    }
}

fn share(node: &mut Node<'_>) {
    node.shared = true;
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(list) => list.iter_mut().for_each(share),
        Value::Map(pairs) => pairs.iter_mut().for_each(|pair| share(&mut pair.node)),
    }
}

/// What a copy costs.
#[derive(Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
    depth: usize,
}

impl Size {
    fn of(node: &Node<'_>) -> Self {
        match &node.value {
            Value::Scalar(scalar) => Size {
                values: 1,
                bytes: scalar.text.len(),
                depth: 0,
            },
            Value::List(list) => list.iter().map(Size::of).fold(Size::one(), Size::with),
            Value::Map(pairs) => pairs
                .iter()
                .map(|pair| {
                    let size = Size::of(&pair.node);
                    Size {
                        bytes: size.bytes + pair.key.len(),
                        ..size
                    }
                })
                .fold(Size::one(), Size::with),
        }
    }

    /// A list or mapping without its values.
    fn one() -> Self {
        Size {
            values: 1,
            bytes: 0,
            depth: 1,
        }
    }

    fn with(self, inner: Size) -> Self {
        Size {
            values: self.values + inner.values,
            bytes: self.bytes + inner.bytes,
            depth: self.depth.max(inner.depth + 1),
        }
    }
}

/// What is wrong with the YAML, in words for whoever wrote it.
fn said(kind: &ErrorKind) -> Cow<'static, str> {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => "a tab cannot indent; use spaces".into(),
        ErrorKind::TabInPlainScalar => {
            "the line after this is indented with a tab; use spaces".into()
        }
        ErrorKind::MappingValueNotAllowed => {
            "a `:` where no value can begin; put the text in quotes, or look at the indentation"
                .into()
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            "text cannot begin so; put it in quotation marks".into()
        }
        ErrorKind::UnclosedQuotedScalar => "a quotation mark is not closed".into(),
        ErrorKind::RecursionLimitExceeded => {
            format!("more than {DEEPEST} lists and mappings in each other").into()
        }
        ErrorKind::SimpleKeyExpected => "a line without `:` among `name: value` lines".into(),
        kind => format!("not YAML: {kind}").into(),
    }
}
