//! `rack.early_hints`: headers that the client gets before its answer, as a 103 (RFC 8297).

use super::call::Fault;
use super::response;
use crate::gvl;
use iodine_codec::http1::{BodySize, RequestFacts, ResponseEncoder};
use iodine_core::ConnHandle;
use iodine_core::command::Command;
use magnus::rb_sys::AsRawValue;
use magnus::typed_data::Obj;
use magnus::{Class, Error, Module, RModule, Ruby, TypedData, Value, method};

/// The callable in `env['rack.early_hints']`.
#[magnus::wrap(class = "Iodine::Base::EarlyHints", free_immediately, size)]
pub struct EarlyHints {
    conn: ConnHandle,
    /// Which request of the connection may do this.
    number: u64,
}

/// Defines the class.
pub fn init(ruby: &Ruby, base: RModule) -> Result<(), Error> {
    let class = base.define_class("EarlyHints", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_method("call", method!(EarlyHints::call, 1))?;
    let _ = EarlyHints::class(ruby);
    Ok(())
}

/// The callable for one request. The GVL is held; may raise NoMemoryError.
pub fn new(ruby: &Ruby, conn: &ConnHandle, number: u64) -> Obj<EarlyHints> {
    ruby.obj_wrap(EarlyHints { conn: conn.clone(), number })
}

impl EarlyHints {
    /// `call(headers)`: sends them, if the request is not answered yet.
    fn call(ruby: &Ruby, this: &EarlyHints, headers: Value) -> Result<(), Error> {
        let mut head = Vec::new();
        let mut fault: Option<Fault> = None;
        gvl::protect(|| {
            let mut encoder = ResponseEncoder::new(&mut head, RequestFacts::default(), 103);
            fault = response::header_hash(headers.as_raw())
                .and_then(|hash| response::write_headers(&mut encoder, hash))
                .err();
            encoder.finish(BodySize::UntilClose, b"", false);
            headers.as_raw()
        })?;
        if let Some(fault) = fault {
            return Err(Error::new(ruby.exception_arg_error(), fault.to_string()));
        }
        this.conn.push_interim(this.number, head);
        this.conn.handle().send(Command::Write(this.conn.clone()));
        Ok(())
    }
}
