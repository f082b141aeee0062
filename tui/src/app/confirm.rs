//! The question before harm. The button that does nothing has the focus until somebody moves it.

use super::act::Plan;
use crate::keys::{Chord, Code};

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
