//! What the policy says.

use crate::check::{ARRAY, FALSE, MAP, TEXT, TRUE};
use crate::value::{Faults, Place, Token, Value};

/// A value of an AR4SI claim: nothing is said.
pub const UNKNOWN: i8 = 0;
/// A value of an AR4SI claim: as it should be.
pub const AFFIRMING: i8 = 2;
/// A value of an AR4SI claim: not as it should be, and bearable.
pub const WARNING: i8 = 32;
/// A value of an AR4SI claim: speaks against trusting the peer.
pub const CONTRAINDICATED: i8 = 96;

/// A claim of AR4SI.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Claim {
    Hardware,
    Executables,
    FileSystem,
    SourcedData,
    Configuration,
    RuntimeOpaque,
    StorageOpaque,
    InstanceIdentity,
}

/// In the order of their encodings.
const CLAIMS: [&str; 8] = [
    "hardware",
    "executables",
    "file-system",
    "sourced-data",
    "configuration",
    "runtime-opaque",
    "storage-opaque",
    "instance-identity",
];

/// The value of an obligation. Integers, booleans and texts become one.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub enum Obligation<'a> {
    Int(i64),
    Bool(bool),
    Text(&'a str),
}

impl From<i32> for Obligation<'_> {
    fn from(n: i32) -> Self {
        Obligation::Int(n.into())
    }
}

impl From<i64> for Obligation<'_> {
    fn from(n: i64) -> Self {
        Obligation::Int(n)
    }
}

impl From<bool> for Obligation<'_> {
    fn from(b: bool) -> Self {
        Obligation::Bool(b)
    }
}

impl<'a> From<&'a str> for Obligation<'a> {
    fn from(s: &'a str) -> Self {
        Obligation::Text(s)
    }
}

const REASONS: usize = 32;
const OBLIGATIONS: usize = 16;
const TEXT_SIZE: usize = 256;

#[derive(Clone, Copy)]
struct Reason<'a> {
    code: &'a str,
    text: &'a str,
    claim: Place<'a>,
}

/// What the policy says, from which its answer is made: a fault in reading the
/// document denies; else any [`deny`](Policy::deny); else
/// [`allow`](Policy::allow) allows; else [`abstain`](Policy::abstain) abstains.
/// Who said none of them denies.
pub struct Policy<'a> {
    doc: &'a Faults<'a>,
    denied: bool,
    allowed: bool,
    abstained: bool,
    reasons: [Option<Reason<'a>>; REASONS],
    vector: [Option<i8>; CLAIMS.len()],
    obligations: [Option<(&'a str, Obligation<'a>)>; OBLIGATIONS],
}

impl<'a> Policy<'a> {
    pub(crate) fn new(doc: &'a Faults<'a>) -> Self {
        Policy {
            doc,
            denied: false,
            allowed: false,
            abstained: false,
            reasons: [None; REASONS],
            vector: [None; CLAIMS.len()],
            obligations: [None; OBLIGATIONS],
        }
    }

    /// Denies. The code has 1 to 64 characters of a-z, 0-9 and hyphen, the text is
    /// for people, and the claim is what was judged. The first 32 reasons stand.
    pub fn deny(&mut self, code: &'a str, text: &'a str, claim: Value<'a>) {
        self.denied = true;
        self.note(code, text, claim);
    }

    /// Gives a reason that does not deny.
    pub fn note(&mut self, code: &'a str, text: &'a str, claim: Value<'a>) {
        self.reason(Reason { code, text, claim: claim.place });
    }

    fn reason(&mut self, r: Reason<'a>) {
        if let Some(free) = self.reasons.iter_mut().find(|r| r.is_none()) {
            *free = Some(r);
        }
    }

    /// Sets a claim of the vector. An answer to *appraise* that allows has all of
    /// them.
    pub fn affirm(&mut self, claim: Claim, value: i8) {
        self.vector[claim as usize] = Some(value);
    }

    /// Sets all claims of the vector.
    pub fn affirm_all(&mut self, value: i8) {
        self.vector = [Some(value); CLAIMS.len()];
    }

    /// Allows under a condition. The same id again replaces the value; a 17th id
    /// denies.
    pub fn oblige(&mut self, id: &'a str, value: impl Into<Obligation<'a>>) {
        let o = Some((id, value.into()));
        for place in self.obligations.iter_mut() {
            if place.map_or(true, |(other, _)| other == id) {
                *place = o;
                return;
            }
        }
        self.doc.note("result-limit", "the result has more than 16 obligations", Place::Nowhere);
    }

    /// Allows, unless anything denied.
    pub fn allow(&mut self) {
        self.allowed = true;
    }

    /// Says nothing, unless anything denied or allowed.
    pub fn abstain(&mut self) {
        self.abstained = true;
    }

    /// Writes the result, and returns its size: 0 if it has no room.
    pub(crate) fn finish(mut self, appraise: bool, out: &mut [u8]) -> usize {
        let mut decision = "deny";
        let fault = self.doc.first();
        if let Some(f) = fault {
            self.reasons = [None; REASONS];
            self.reason(Reason { code: f.code, text: f.text, claim: f.claim });
        } else if self.denied {
        } else if self.allowed {
            decision = "allow";
        } else if self.abstained {
            decision = "abstain";
        } else {
            self.reason(Reason { code: "no-decision", text: "the policy did not decide", claim: Place::Nowhere });
        }
        if fault.is_some() || !appraise {
            self.vector = [None; CLAIMS.len()];
        }
        if decision != "allow" {
            self.obligations = [None; OBLIGATIONS];
        }
        let claims = self.vector.iter().flatten().count();
        let reasons = self.reasons.iter().flatten().count();
        let obligations = self.obligations.iter().flatten().count();

        let mut w = Writer { out, size: 0, full: false };
        w.head(MAP, 1 + (claims > 0) as u64 + (reasons > 0) as u64 + (obligations > 0) as u64);
        if claims > 0 {
            w.text("vector");
            w.head(MAP, claims as u64);
            for (name, value) in CLAIMS.iter().zip(self.vector) {
                if let Some(v) = value {
                    w.text(name);
                    w.int(v as i64);
                }
            }
        }
        if reasons > 0 {
            w.text("reasons");
            w.head(ARRAY, reasons as u64);
            for r in self.reasons.iter().flatten() {
                w.reason(self.doc, r);
            }
        }
        w.text("decision");
        w.text(decision);
        if obligations > 0 {
            w.text("obligations");
            w.head(ARRAY, obligations as u64);
            for (id, value) in self.obligations.iter().flatten() {
                w.head(MAP, 2);
                w.text("id");
                w.text(id);
                w.text("value");
                match *value {
                    Obligation::Int(n) => w.int(n),
                    Obligation::Bool(b) => w.byte(if b { TRUE } else { FALSE }),
                    Obligation::Text(s) => w.text(s),
                }
            }
        }
        if w.full {
            0
        } else {
            w.size
        }
    }
}

struct Writer<'o> {
    out: &'o mut [u8],
    size: usize,
    full: bool,
}

impl Writer<'_> {
    fn byte(&mut self, b: u8) {
        match self.out.get_mut(self.size) {
            Some(place) => {
                *place = b;
                self.size += 1;
            }
            None => self.full = true,
        }
    }

    fn head(&mut self, kind: u8, n: u64) {
        let kind = kind << 5;
        let info = match n {
            0..=23 => return self.byte(kind | n as u8),
            24..=0xff => 0,
            0x100..=0xffff => 1,
            0x1_0000..=0xffff_ffff => 2,
            _ => 3,
        };
        self.byte(kind | (24 + info));
        for &b in &n.to_be_bytes()[8 - (1 << info)..] {
            self.byte(b);
        }
    }

    fn text(&mut self, s: &str) {
        self.head(TEXT, s.len() as u64);
        for &b in s.as_bytes() {
            self.byte(b);
        }
    }

    fn int(&mut self, n: i64) {
        if n < 0 {
            self.head(1, !n as u64);
        } else {
            self.head(0, n as u64);
        }
    }

    fn reason<'a>(&mut self, doc: &Faults<'a>, r: &Reason<'a>) {
        let mut pointer = Pointer { bytes: [0; TEXT_SIZE], size: 0, full: false };
        doc.way(r.claim, |token| pointer.token(token));
        let mut text = r.text;
        if text.len() > TEXT_SIZE {
            let mut end = TEXT_SIZE;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text = text.get(..end).unwrap_or("");
        }
        self.head(MAP, 1 + !text.is_empty() as u64 + (pointer.size > 0) as u64);
        self.text("code");
        self.text(r.code);
        if !text.is_empty() {
            self.text("text");
            self.text(text);
        }
        if pointer.size > 0 {
            self.text("claim");
            self.head(TEXT, pointer.size as u64);
            for i in 0..pointer.size {
                self.byte(pointer.bytes[i]);
            }
        }
    }
}

/// A JSON pointer. A token that does not fit ends it.
struct Pointer {
    bytes: [u8; TEXT_SIZE],
    size: usize,
    full: bool,
}

impl Pointer {
    fn token(&mut self, t: Token) {
        let mut digits = [0u8; 20];
        let s = match t {
            Token::Name(s) => s.as_bytes(),
            Token::Index(mut i) => {
                let mut at = digits.len();
                loop {
                    at -= 1;
                    digits[at] = b'0' + (i % 10) as u8;
                    i /= 10;
                    if i == 0 {
                        break;
                    }
                }
                &digits[at..]
            }
        };
        let size = 1 + s.len() + s.iter().filter(|&&c| c == b'~' || c == b'/').count();
        if self.full || size > TEXT_SIZE - self.size {
            self.full = true;
            return;
        }
        self.put(b'/');
        for &c in s {
            match c {
                b'~' => {
                    self.put(b'~');
                    self.put(b'0');
                }
                b'/' => {
                    self.put(b'~');
                    self.put(b'1');
                }
                _ => self.put(c),
            }
        }
    }

    fn put(&mut self, c: u8) {
        if let Some(place) = self.bytes.get_mut(self.size) {
            *place = c;
            self.size += 1;
        }
    }
}
