//! The question before harm. The button that does nothing has the focus until somebody moves it.

use skytower_api_client::column::{Align, Cut};
use skytower_api_client::human;

use super::act::{Plan, called};
use super::input::action_noun;
use crate::keys::{Chord, Code};
use crate::text::{cut, fit, width, wrap};
use crate::theme::Tone;

/// A button of the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Do nothing.
    Keep,
    /// Only what is one's own.
    OnlyMine,
    /// Do it to all that may be.
    Go,
}

/// The question.
#[derive(Debug)]
pub struct Confirm {
    /// What would happen.
    pub plan: Plan,
    /// What was typed.
    pub typed: String,
    /// The button with the focus.
    pub focus: Button,
    /// The first line of the list of targets shown.
    pub top: usize,
}

/// What a key did to the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It stays.
    Open,
    /// Nothing is done.
    Keep,
    /// Do it; to one's own only, when true.
    Go(bool),
    /// Copy the commands.
    Copy,
}

impl Confirm {
    /// Asks about a plan.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            typed: String::new(),
            focus: Button::Keep,
            top: 0,
        }
    }

    /// The buttons it has.
    pub fn buttons(&self) -> Vec<Button> {
        let mut buttons = vec![Button::Keep];
        if self.plan.count() == 0 {
            return buttons;
        }
        if !self.plan.mine.is_empty() && !self.plan.others.is_empty() {
            buttons.push(Button::OnlyMine);
        }
        buttons.push(Button::Go);
        buttons
    }

    /// The number was typed, where one has to be.
    pub fn is_typed(&self) -> bool {
        self.plan
            .must_type()
            .is_none_or(|count| self.typed == count.to_string())
    }

    /// What would be done, in a word: `Cancel`.
    pub(crate) fn verb(&self) -> &'static str {
        let title = self.plan.action.title;
        let noun = action_noun(self.plan.action);
        title
            .strip_suffix(noun)
            .map_or(title, |verb| verb.trim_end())
    }

    /// What stands on a button.
    pub(crate) fn label(&self, button: Button) -> String {
        let (verb, count) = (self.verb(), self.plan.count());
        match button {
            Button::Keep if count == 0 => " Close ".to_owned(),
            Button::Keep => " Keep ".to_owned(),
            Button::OnlyMine => format!(" Only mine ({}) ", self.plan.mine.len()),
            Button::Go if count == 1 => format!(" {verb} "),
            Button::Go => format!(" {verb} {count} "),
        }
    }

    /// Rows below the text: the buttons, and what has to be typed.
    pub(crate) fn rows_below(&self) -> u16 {
        if self.plan.must_type().is_some() {
            3
        } else {
            1
        }
    }

    /// What would happen to which of whose, what is left alone, and the commands that do the same.
    pub(crate) fn lines(&self, room: usize, ascii: bool) -> Vec<(String, Tone)> {
        let plan = &self.plan;
        let mut lines: Vec<(String, Tone)> = vec![(String::new(), Tone::Plain)];
        // By owner: how many, which.
        let mut groups: Vec<(String, Vec<String>, bool)> = Vec::new();
        if !plan.mine.is_empty() {
            let names = plan.mine.iter().map(|row| called(row)).collect();
            groups.push(("yours".to_owned(), names, true));
        }
        for (row, owner) in &plan.others {
            match groups
                .iter_mut()
                .find(|(name, _, mine)| !mine && name == owner.as_str())
            {
                Some((_, names, _)) => names.push(called(row)),
                None => groups.push((owner.to_string(), vec![called(row)], false)),
            }
        }
        let owners = groups
            .iter()
            .map(|(name, ..)| width(name))
            .max()
            .unwrap_or(0)
            .min(16);
        for (owner, names, mine) in &groups {
            let owner = fit(owner, owners, Align::Left, Cut::End, ascii);
            let front = format!("{:>4}  {owner}  ", names.len());
            let rest = cut(
                &names.join(", "),
                room.saturating_sub(width(&front)),
                Cut::End,
                ascii,
            );
            lines.push((
                format!("{front}{rest}"),
                if *mine { Tone::Plain } else { Tone::Title },
            ));
        }
        if !plan.others.is_empty() {
            lines.push((String::new(), Tone::Plain));
            let text = format!("! {} of {} not yours", plan.others.len(), plan.count());
            lines.push((text, Tone::Warn));
        }
        for (row, reason) in plan.refused.iter().take(5) {
            let text = format!(
                "{} left alone: {}: {reason}",
                if ascii { "x" } else { "✗" },
                called(row)
            );
            for piece in wrap(&text, room) {
                lines.push((piece, Tone::Dim));
            }
        }
        if plan.refused.len() > 5 {
            lines.push((
                format!("  and {} more left alone", plan.refused.len() - 5),
                Tone::Dim,
            ));
        }
        if plan.hidden > 0 {
            let text = format!(
                "{} that the filter hides: left alone",
                human::count(plan.hidden, "marked row")
            );
            lines.push((text, Tone::Dim));
        }
        if plan.count() > 0 {
            lines.push((String::new(), Tone::Plain));
            for piece in wrap(plan.action.doc, room) {
                lines.push((piece, Tone::Dim));
            }
            for command in plan.sky(false).into_iter().take(2) {
                lines.push((
                    cut(&format!("$ {command}"), room, Cut::End, ascii),
                    Tone::Dim,
                ));
            }
        }
        lines.push((String::new(), Tone::Plain));
        lines
    }

    /// A button was clicked.
    pub(crate) fn click(&mut self, button: Button) -> Answer {
        self.focus = button;
        self.key(Chord::plain(Code::Enter))
    }

    pub(crate) fn key(&mut self, chord: Chord) -> Answer {
        let buttons = self.buttons();
        let at = buttons
            .iter()
            .position(|button| *button == self.focus)
            .unwrap_or(0);
        match chord.code {
            Code::Esc => return Answer::Keep,
            Code::Char('q' | 'n') if !chord.ctrl => return Answer::Keep,
            Code::Char('c') if chord.ctrl => return Answer::Keep,
            Code::Char('Y') => return Answer::Copy,
            Code::Tab if chord.shift => {
                self.focus = buttons[(at + buttons.len() - 1) % buttons.len()];
            }
            Code::Tab | Code::Right => self.focus = buttons[(at + 1) % buttons.len()],
            Code::Left => self.focus = buttons[(at + buttons.len() - 1) % buttons.len()],
            Code::Char('y')
                if !chord.ctrl && self.plan.count() > 0 && self.plan.must_type().is_none() =>
            {
                return Answer::Go(false);
            }
            Code::Up | Code::Char('k') => self.top = self.top.saturating_sub(1),
            Code::Down | Code::Char('j') => self.top += 1,
            Code::Char(c) if c.is_ascii_digit() && self.plan.must_type().is_some() => {
                if self.typed.len() < 7 {
                    self.typed.push(c);
                }
                // Whoever typed the number meant the button.
                self.focus = if self.is_typed() {
                    Button::Go
                } else {
                    Button::Keep
                };
            }
            Code::Backspace => {
                self.typed.pop();
                self.focus = Button::Keep;
            }
            Code::Enter => {
                return match self.focus {
                    Button::Keep => Answer::Keep,
                    Button::OnlyMine => Answer::Go(true),
                    Button::Go if self.is_typed() => Answer::Go(false),
                    Button::Go => Answer::Open,
                };
            }
            _ => {}
        }
        Answer::Open
    }
}
