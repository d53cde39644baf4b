//! One request, from env to answer: calls the application and survives whatever it does.

use super::body::{is_type, responds_to};
use super::response::{self, Draft};
use super::{env, hijack, input};
use crate::{gvl, roots};
use iodine_codec::http::RequestHead;
use iodine_codec::http1::{RequestFacts, simple_response};
use iodine_core::clock::http_date;
use iodine_core::conn::Answer;
use iodine_core::log::{self, Level};
use iodine_core::overload::refusal;
use iodine_core::{Body, Request};
use magnus::error::ErrorType;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{Error, Ruby};
use rb_sys::{ID, VALUE, ruby_value_type};
use std::ffi::c_long;
use std::sync::OnceLock;
use std::time::Instant;

/// What came of a request.
#[derive(Debug)]
pub struct Answered {
    /// What goes to the client; `None` when there is no client, or the socket is the application's now.
    pub answer: Option<Answer>,
    /// For the log.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// The request's head, for the log.
    pub head: Option<RequestHead>,
    /// When its head had arrived.
    pub started: Instant,
    /// Set when the thread was killed meanwhile: the caller lets it die when it has delivered this.
    pub killed: Option<Error>,
}

/// Why what the application returned can not be sent: logged, and answered with a 500.
#[derive(Debug)]
pub struct Fault(String);

impl Fault {
    /// A fault with this explanation.
    pub fn new(text: impl Into<String>) -> Fault {
        Fault(text.into())
    }
}

/// Names of methods, looked up once.
#[derive(Debug)]
pub struct Ids {
    /// `each`
    pub each: ID,
    /// `to_s`
    pub to_s: ID,
    call: ID,
    close: ID,
}

/// Names of methods, looked up once. The GVL is held.
pub fn ids() -> &'static Ids {
    static IDS: OnceLock<Ids> = OnceLock::new();
    IDS.get_or_init(|| {
        // SAFETY: the GVL is held.
        let id = |name: &str| unsafe { rb_sys::rb_intern2(name.as_ptr().cast(), name.len() as c_long) };
        Ids { each: id("each"), to_s: id("to_s"), call: id("call"), close: id("close") }
    })
}

/// Runs `request` through its application. The GVL is held; never raises.
pub fn answer_request(ruby: &Ruby, mut request: Box<Request>) -> Answered {
    let mut answered =
        Answered { answer: None, status: 0, length: 0, head: None, started: request.started, killed: None };
    let Some(number) = request.conn.begin() else { return answered };
    if let Some(refused) = refusal(&request, Instant::now()) {
        let head = Some(request.head);
        return Answered {
            answer: Some(refused.answer),
            status: refused.status,
            length: refused.length,
            head,
            ..answered
        };
    }
    let body = std::mem::take(&mut request.body);
    let mut draft = Draft { head: Vec::with_capacity(512), ..Draft::default() };
    // On the stack, where the collector finds them.
    let mut held = Held { input: rb_sys::Qnil as VALUE, body: rb_sys::Qnil as VALUE };
    let outcome = call(ruby, &request, body, number, &mut draft, &mut held);
    let hijacked = request.conn.is_hijacked();
    let mut failures = [outcome.err(), close_body(held.body).err().map(Failure::Raised)];
    if held.input != rb_sys::Qnil as VALUE && !hijacked {
        input::release(held.input);
    }
    let failed = failures[0].is_some();
    for failure in failures.iter_mut().filter_map(Option::take) {
        answered.killed = report(failure).or(answered.killed);
    }
    if hijacked {
        return answered;
    }
    if failed {
        draft = failure_draft(request.facts, request.conn.is_ending());
    }
    answered.status = draft.status;
    answered.length = draft.length;
    let body = draft.lent.or_else(|| (!draft.body.is_empty()).then_some(draft.body.into()));
    answered.answer = Some(Answer { head: draft.head, body, close: draft.close });
    answered.head = Some(request.head);
    answered
}

/// What is left to close when the application has returned.
struct Held {
    input: VALUE,
    body: VALUE,
}

enum Failure {
    Raised(Error),
    Fault(Fault),
}

fn call(
    ruby: &Ruby,
    request: &Request,
    body: Body,
    number: u64,
    draft: &mut Draft,
    held: &mut Held,
) -> Result<(), Failure> {
    let app = roots::value(request.conn.service().app);
    let mut body = Some(body);
    let mut fault = None;
    let raised = gvl::protect(|| {
        let nil = rb_sys::Qnil as VALUE;
        let hijack = hijack::new(ruby, &request.conn, number);
        let (length, input) = match body.take() {
            None | Some(Body::Empty) => (0, nil),
            Some(body) => (body.len(), input::new(ruby, body)),
        };
        held.input = input;
        let env = env::build(request, length, input, hijack.as_raw());
        hijack.set_env(env);
        // SAFETY: the GVL is held; what is raised is caught by `protect`.
        let answer = unsafe { rb_sys::rb_funcallv(app, ids().call, 1, &env) };
        let written = response::unpack(answer).and_then(|parts| {
            held.body = parts.2;
            if request.conn.is_hijacked() {
                return Ok(());
            }
            response::write(draft, request.facts, request.conn.is_ending(), parts)
        });
        fault = written.err();
        nil
    });
    match (raised, fault) {
        (Err(error), _) => Err(Failure::Raised(error)),
        (Ok(_), Some(fault)) => Err(Failure::Fault(fault)),
        (Ok(_), None) => Ok(()),
    }
}

/// `close` of a body is called once, whatever has happened before (F-29).
fn close_body(body: VALUE) -> Result<(), Error> {
    let nil = rb_sys::Qnil as VALUE;
    if rb_sys::SPECIAL_CONST_P(body) || is_plain(body) {
        return Ok(());
    }
    gvl::protect(|| {
        close_if_possible(body);
        if is_type(body, ruby_value_type::RUBY_T_ARRAY) {
            // SAFETY: it is an Array; an index past its end gives nil.
            unsafe {
                if rb_sys::RARRAY_LEN(body) == 1 {
                    close_if_possible(rb_sys::rb_ary_entry(body, 0));
                }
            }
        }
        nil
    })
    .map(|_| ())
}

/// An Array of one String, itself no subclass: nothing that could have a `close`.
fn is_plain(body: VALUE) -> bool {
    // SAFETY: live values; an index past the end gives nil.
    unsafe {
        is_type(body, ruby_value_type::RUBY_T_ARRAY)
            && rb_sys::rb_obj_class(body) == rb_sys::rb_cArray
            && rb_sys::RARRAY_LEN(body) == 1
            && rb_sys::rb_obj_class(rb_sys::rb_ary_entry(body, 0)) == rb_sys::rb_cString
    }
}

fn close_if_possible(body: VALUE) {
    // SAFETY: a live value; the GVL is held; may raise into the `protect` around.
    unsafe {
        if !rb_sys::SPECIAL_CONST_P(body) && responds_to(body, "close") {
            rb_sys::rb_funcallv(body, ids().close, 0, std::ptr::null());
        }
    }
}

fn failure_draft(facts: RequestFacts, closing: bool) -> Draft {
    let mut draft = Draft { status: 500, ..Draft::default() };
    let finished = simple_response(&mut draft.head, facts, 500, &http_date(), closing, &[]);
    draft.close = !finished.keep_alive;
    draft.length = if finished.send_body { "500 Internal Server Error".len() as u64 } else { 0 };
    draft
}

/// Logs a failure. Returns the error that must go on, because it is the death of this thread.
fn report(failure: Failure) -> Option<Error> {
    match failure {
        Failure::Fault(Fault(text)) => {
            log::message(Level::Error, &format!("the answer can not be sent: {text}."));
            None
        }
        Failure::Raised(error) => report_error(error),
    }
}

/// Logs what Ruby raised. Returns it when it is no exception but the death of this thread. The GVL is held.
pub fn report_error(error: Error) -> Option<Error> {
    match error.error_type() {
        ErrorType::Jump(_) => Some(error),
        ErrorType::Exception(exception) => {
            report_exception(exception.as_raw());
            None
        }
        ErrorType::Error(_, message) => {
            log::message(Level::Error, message);
            None
        }
    }
}

/// By way of Ruby, where a `message` that raises or is no String is easily dealt with (F-07).
fn report_exception(exception: VALUE) {
    let reported = gvl::protect(|| {
        // SAFETY: the GVL is held; `lib/iodine/report.rb` defines the method.
        unsafe {
            let base = magnus::Value::from_raw(crate::api::base_module());
            let id = rb_sys::rb_intern2(c"report".as_ptr(), 6);
            rb_sys::rb_funcallv(base.as_raw(), id, 1, &exception)
        }
    });
    if reported.is_err() {
        log::message(Level::Error, "Iodine caught an unprotected exception that can not be described.");
    }
}
