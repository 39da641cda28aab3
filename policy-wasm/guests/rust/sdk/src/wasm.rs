//! The module's side of the ABI.

use crate::Rules;

const PAGE: u32 = 64 << 10;
const OUTPUT: usize = 40 << 10;

static mut OUT: [u8; OUTPUT] = [0; OUTPUT];

extern "C" {
    static __heap_base: u8;
}

#[cfg_attr(not(test), panic_handler)]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable() // which the host turns into a denial
}

#[no_mangle]
extern "C" fn tmcp_abi_version() -> u32 {
    1
}

/// Makes room for the input behind all data. An instance is asked once.
#[no_mangle]
#[allow(unused_unsafe)] // older compilers want it
extern "C" fn tmcp_allocate(size: u32) -> u32 {
    if size > 16 << 20 {
        return 0;
    }
    // SAFETY: the linker defines the symbol; only its address is taken.
    let at = unsafe { core::ptr::addr_of!(__heap_base) as u32 };
    let need = ((at + size + PAGE - 1) / PAGE) as usize;
    let have = core::arch::wasm32::memory_size(0);
    if need > have && core::arch::wasm32::memory_grow(0, need - have) == usize::MAX {
        return 0;
    }
    at
}

#[doc(hidden)]
pub fn run(at: u32, size: u32, appraise: bool, rules: Rules) -> u64 {
    // SAFETY: the host wrote size bytes where tmcp_allocate made room, and nobody
    // else writes there; OUT is used here only, once, by one thread.
    unsafe {
        let input = core::slice::from_raw_parts(at as *const u8, size as usize);
        let out = &mut *core::ptr::addr_of_mut!(OUT);
        let size = crate::evaluate(input, appraise, rules, out).len();
        if size == 0 {
            return 0;
        }
        (core::ptr::addr_of!(OUT) as u64) << 32 | size as u64
    }
}
