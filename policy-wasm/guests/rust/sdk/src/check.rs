//! Is the input a document, in the one spelling that it has?

pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const FALSE: u8 = 0xf4;
pub(crate) const TRUE: u8 = 0xf5;
pub(crate) const NULL: u8 = 0xf6;

const LEVELS: usize = 32;

/// An array or object that is being read.
#[derive(Clone, Copy)]
struct Level<'a> {
    left: u64, // items to come; of an object keys and values
    map: bool,
    key: Option<&'a [u8]>, // the last one
}

/// The head of an item: its type, its number and where it ends, if it is spelled
/// in as few bytes as it can be.
pub(crate) fn head(b: &[u8], at: usize) -> Option<(u8, u64, usize)> {
    let first = *b.get(at)?;
    let (kind, info) = (first >> 5, first & 31);
    let mut end = at + 1;
    if info < 24 {
        return Some((kind, info as u64, end));
    }
    if info > 27 || kind == 7 {
        return None;
    }
    let size = 1usize << (info - 24);
    let mut n = 0u64;
    for _ in 0..size {
        n = n << 8 | *b.get(end)? as u64;
        end += 1;
    }
    let shortest = if size == 1 { n >= 24 } else { n >> (size * 4) != 0 };
    if shortest {
        Some((kind, n, end))
    } else {
        None
    }
}

/// Keys are ordered as their encodings are: the shorter first.
fn less(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) < (b.len(), b)
}

pub(crate) fn document(b: &[u8]) -> bool {
    walk(b).is_some()
}

fn walk(b: &[u8]) -> Option<()> {
    let mut stack = [Level { left: 0, map: false, key: None }; LEVELS];
    let mut depth = 0usize;
    let mut at = 0usize;
    loop {
        let (kind, n, end) = head(b, at)?;
        at = end;
        let mut outer = depth.checked_sub(1).and_then(|i| stack.get_mut(i));
        let mut key = false;
        if let Some(level) = outer.as_mut() {
            key = level.map && level.left % 2 == 0;
            level.left -= 1;
        }
        if key && kind != TEXT {
            return None;
        }
        match kind {
            0 if n < 1 << 53 => {}
            1 if n < (1 << 53) - 1 => {}
            TEXT => {
                let end = at.checked_add(usize::try_from(n).ok()?)?;
                let text = b.get(at..end)?;
                core::str::from_utf8(text).ok()?;
                at = end;
                if key {
                    let level = outer?;
                    if level.key.map_or(false, |last| !less(last, text)) {
                        return None;
                    }
                    level.key = Some(text);
                }
            }
            ARRAY | MAP => {
                if n > (b.len() - at) as u64 {
                    return None;
                }
                let map = kind == MAP;
                *stack.get_mut(depth)? = Level { left: if map { 2 * n } else { n }, map, key: None };
                depth += 1;
            }
            7 if (20..=22).contains(&n) => {}
            _ => return None,
        }
        while depth > 0 && stack.get(depth - 1)?.left == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return if at == b.len() { Some(()) } else { None };
        }
    }
}
