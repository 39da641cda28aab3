//! Policies for Trusted MCP in WebAssembly: no standard library, no allocation,
//! no other crate.
//!
//! ```
//! use tmcp_policy::{Policy, Value, AFFIRMING};
//!
//! fn appraise<'a>(doc: Value<'a>, p: &mut Policy<'a>) {
//!     for device in doc.get("devices").elements() {
//!         let debug = device.get("debug");
//!         if debug.bool() {
//!             p.deny("debug", "the TEE can be read from outside", debug);
//!         }
//!     }
//!     p.affirm_all(AFFIRMING);
//!     p.allow();
//! }
//!
//! tmcp_policy::appraise!(appraise);
//! # fn main() {}
//! ```
//!
//! The whole input is checked before the policy runs, and read in place. It fails
//! closed: who reads a member that is missing, or that has another type, gets
//! null, false, 0, "" or nothing, and whatever the policy says then, the result is
//! a denial that names this member. Only [`Value::find`], [`Value::is_null`] and
//! the functions that end in `_or` ask without that.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod check;
mod result;
mod value;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wasm;

pub use result::{Claim, Obligation, Policy, AFFIRMING, CONTRAINDICATED, UNKNOWN, WARNING};
pub use value::{Elements, Value};

/// What a policy is: a function of the document that says its answer.
pub type Rules = for<'a> fn(Value<'a>, &mut Policy<'a>);

/// Answers a question about a document, as the module's entry points do: for
/// tests on the machine itself. `out` needs room for 40 KiB; returned is the part
/// that holds the result, in deterministic CBOR.
pub fn evaluate<'o>(input: &[u8], appraise: bool, rules: Rules, out: &'o mut [u8]) -> &'o [u8] {
    let fault = value::Faults::new(input);
    let mut policy = Policy::new(&fault);
    if check::document(input) {
        rules(Value::root(&fault), &mut policy);
    } else {
        fault.malformed();
    }
    let size = policy.finish(appraise, out);
    &out[..size]
}

/// Names the function that appraises: may this peer be trusted?
#[macro_export]
macro_rules! appraise {
    ($f:path) => {
        #[cfg(target_arch = "wasm32")]
        #[no_mangle]
        pub extern "C" fn tmcp_appraise(at: u32, size: u32) -> u64 {
            $crate::wasm::run(at, size, true, $f)
        }
    };
}

/// Names the function that authorizes: may the peer make this call?
#[macro_export]
macro_rules! authorize {
    ($f:path) => {
        #[cfg(target_arch = "wasm32")]
        #[no_mangle]
        pub extern "C" fn tmcp_authorize(at: u32, size: u32) -> u64 {
            $crate::wasm::run(at, size, false, $f)
        }
    };
}

#[cfg(test)]
mod tests;
