//! Views into the document.

use crate::check::{self, ARRAY, FALSE, MAP, NULL, TEXT, TRUE};
use core::cell::Cell;

/// The document, and the first fault in reading it.
pub(crate) struct Faults<'a> {
    pub(crate) input: &'a [u8],
    first: Cell<Option<Fault<'a>>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Fault<'a> {
    pub(crate) code: &'static str,
    pub(crate) text: &'static str,
    pub(crate) claim: Place<'a>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Faults { input, first: Cell::new(None) }
    }

    pub(crate) fn first(&self) -> Option<Fault<'a>> {
        self.first.get()
    }

    pub(crate) fn note(&self, code: &'static str, text: &'static str, claim: Place<'a>) {
        if self.first.get().is_none() {
            self.first.set(Some(Fault { code, text, claim }));
        }
    }

    pub(crate) fn malformed(&self) {
        self.note("input-malformed", "the input is not deterministic CBOR of a document", Place::Nowhere);
    }

    /// Reads the head of an item of a document that was checked.
    fn head(&self, at: usize) -> (u8, u64, usize) {
        check::head(self.input, at).unwrap_or((7, 0, at + 1))
    }

    fn text(&self, at: usize) -> (&'a str, usize) {
        let (_, n, start) = self.head(at);
        let end = start + n as usize;
        (utf8(self.input.get(start..end).unwrap_or(&[])), end)
    }

    /// Where the item at `at` ends.
    fn after(&self, mut at: usize) -> usize {
        let mut left = 1u64;
        while left > 0 && at < self.input.len() {
            let (kind, n, end) = self.head(at);
            at = end;
            left -= 1;
            match kind {
                TEXT => at += n as usize,
                ARRAY => left += n,
                MAP => left += 2 * n,
                _ => {}
            }
        }
        at
    }

    /// Calls `each` for all names or indexes on the way from the root to a place:
    /// views do not keep it.
    pub(crate) fn way(&self, to: Place<'a>, mut each: impl FnMut(Token<'a>)) {
        let target = match to {
            Place::At(at) | Place::Member(at, _) | Place::Element(at, _) => at,
            Place::Nowhere => return,
        };
        let mut at = 0;
        'down: while at < target {
            let (kind, n, start) = self.head(at);
            at = start;
            for i in 0..n {
                let mut token = Token::Index(i);
                if kind == MAP {
                    let (name, end) = self.text(at);
                    token = Token::Name(name);
                    at = end;
                }
                let next = self.after(at);
                if target < next {
                    each(token);
                    continue 'down;
                }
                at = next;
            }
            return;
        }
        match to {
            Place::Member(_, name) => each(Token::Name(name)),
            Place::Element(_, i) => each(Token::Index(i)),
            _ => {}
        }
    }
}

/// All texts were checked.
fn utf8(b: &[u8]) -> &str {
    // SAFETY: check::document refused what is no UTF-8, before there were values.
    unsafe { core::str::from_utf8_unchecked(b) }
}

#[derive(Clone, Copy)]
pub(crate) enum Token<'a> {
    Name(&'a str),
    Index(u64),
}

/// Where a value stands, or would.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place<'a> {
    At(usize),
    Member(usize, &'a str), // missing from the object there
    Element(usize, u64),    // missing from the array there
    Nowhere,
}

/// A value of the document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    pub(crate) doc: &'a Faults<'a>,
    pub(crate) place: Place<'a>,
}

impl<'a> Value<'a> {
    pub(crate) fn root(doc: &'a Faults<'a>) -> Self {
        Value { doc, place: Place::At(0) }
    }

    fn with(&self, place: Place<'a>) -> Self {
        Value { doc: self.doc, place }
    }

    /// Type, number and the end of the head, if the value is there.
    fn head(&self) -> Option<(u8, u64, usize)> {
        match self.place {
            Place::At(at) => Some(self.doc.head(at)),
            _ => None,
        }
    }

    /// Notes that the value is not what the policy wanted to read.
    fn wrong(&self) {
        match self.place {
            Place::Member(..) | Place::Element(..) => {
                self.doc.note("claim-missing", "a member that the policy reads is missing", self.place)
            }
            _ => self.doc.note("claim-type", "a member that the policy reads has another type", self.place),
        }
    }

    /// The member of that name, which must be there.
    pub fn get(&self, name: &'a str) -> Value<'a> {
        match self.head() {
            Some((MAP, ..)) => {
                let member = self.find(name);
                if !matches!(member.place, Place::At(_)) {
                    member.wrong();
                    return self.with(Place::Nowhere);
                }
                member
            }
            _ => {
                self.wrong();
                self.with(Place::Nowhere)
            }
        }
    }

    /// The member of that name, or null if there is none. Of null: null.
    pub fn find(&self, name: &'a str) -> Value<'a> {
        if self.is_null() {
            return *self;
        }
        let (mut at, n) = match (self.place, self.head()) {
            (Place::At(_), Some((MAP, n, start))) => (start, n),
            _ => {
                self.wrong();
                return self.with(Place::Nowhere);
            }
        };
        for _ in 0..n {
            let (key, value) = self.doc.text(at);
            if key == name {
                return self.with(Place::At(value));
            }
            at = self.doc.after(value);
        }
        match self.place {
            Place::At(parent) => self.with(Place::Member(parent, name)),
            _ => self.with(Place::Nowhere),
        }
    }

    /// The element with that index, which must be there.
    pub fn at(&self, index: usize) -> Value<'a> {
        let (parent, n, mut at) = match (self.place, self.head()) {
            (Place::At(parent), Some((ARRAY, n, start))) => (parent, n, start),
            _ => {
                self.wrong();
                return self.with(Place::Nowhere);
            }
        };
        if index as u64 >= n {
            self.with(Place::Element(parent, index as u64)).wrong();
            return self.with(Place::Nowhere);
        }
        for _ in 0..index {
            at = self.doc.after(at);
        }
        self.with(Place::At(at))
    }

    /// The elements of an array, in order.
    pub fn elements(&self) -> Elements<'a> {
        let (left, at) = match self.head() {
            Some((ARRAY, n, start)) => (n, start),
            Some((MAP, 0, _)) => (0, 0), // as len and at see it
            _ => {
                self.wrong();
                (0, 0)
            }
        };
        Elements { doc: self.doc, left, at }
    }

    /// How many elements an array has, or members an object.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.head() {
            Some((ARRAY | MAP, n, _)) => n as usize,
            _ => {
                self.wrong();
                0
            }
        }
    }

    /// It is null, or was not found.
    pub fn is_null(&self) -> bool {
        match self.place {
            Place::At(at) => self.doc.input.get(at) == Some(&NULL),
            _ => true,
        }
    }

    /// A boolean.
    pub fn bool(&self) -> bool {
        if let Place::At(at) = self.place {
            match self.doc.input.get(at) {
                Some(&TRUE) => return true,
                Some(&FALSE) => return false,
                _ => {}
            }
        }
        self.wrong();
        false
    }

    /// An integer, between -2^53 and 2^53.
    pub fn int(&self) -> i64 {
        match self.head() {
            Some((0, n, _)) => n as i64,
            Some((1, n, _)) => -1 - n as i64,
            _ => {
                self.wrong();
                0
            }
        }
    }

    /// A text.
    pub fn text(&self) -> &'a str {
        match (self.place, self.head()) {
            (Place::At(at), Some((TEXT, ..))) => self.doc.text(at).0,
            _ => {
                self.wrong();
                ""
            }
        }
    }

    /// A boolean, or this one for null.
    pub fn bool_or(&self, if_null: bool) -> bool {
        if self.is_null() {
            return if_null;
        }
        self.bool()
    }

    /// An integer, or this one for null.
    pub fn int_or(&self, if_null: i64) -> i64 {
        if self.is_null() {
            return if_null;
        }
        self.int()
    }

    /// A text, or this one for null.
    pub fn text_or(&self, if_null: &'a str) -> &'a str {
        if self.is_null() {
            return if_null;
        }
        self.text()
    }
}

/// The elements of an array. Made by [`Value::elements`].
pub struct Elements<'a> {
    doc: &'a Faults<'a>,
    left: u64,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let v = Value { doc: self.doc, place: Place::At(self.at) };
        self.at = self.doc.after(self.at);
        Some(v)
    }
}
