//! Tells what a probe sees, so that user space can compare what it sees inside of a function with its entry and return.

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_get_attach_cookie,
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::{
    call::Cookie,
    proof::{LEAVE, Step},
};

use crate::{
    emit::{Wake, emit},
    user,
};

/// At the entry, or inside.
#[inline(always)]
pub(crate) fn step(ctx: &ProbeContext, what: u32) -> Option<()> {
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let regs = user::at_entry(ctx);
    let (_, tid) = user::current_ids();
    let step = Step {
        what,
        tid,
        via: cookie.via().into(),
        knows_size: (cookie.size() != 0).into(),
        sp: regs.sp.wrapping_add(cookie.frame().bytes()),
        fp: regs.fp_of_caller(cookie.frame())?,
        size_bytes: user::requested(ctx, cookie),
        result: user::result_at_exit(ctx),
    };
    emit(&step, Wake::WhenFilling);
    Some(())
}

#[inline(always)]
pub(crate) fn leave(ctx: &RetProbeContext) {
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    let regs = user::at_return(ctx);
    let (_, tid) = user::current_ids();
    let step = Step {
        what: LEAVE,
        tid,
        via: cookie.via().into(),
        // `ret` has popped the return address.
        sp: regs.sp.wrapping_sub(8),
        fp: regs.fp,
        result: user::result(ctx),
        ..Step::default()
    };
    emit(&step, Wake::WhenFilling);
}
