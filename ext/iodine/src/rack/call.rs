//! One request, from env to answer: calls the application and survives whatever it does.

use super::body::{is_type, responds_to};
use super::finished::Callbacks;
use super::response::{self, Draft, Rest};
use super::stream::{self, Ended, Stream};
use super::upgrade::{self, Upgrade};
use super::{early_hints, env, hijack, input};
use crate::{fork, gvl, realtime, roots};
use iodine_codec::http::Version;
use iodine_core::conn::Answer;
use iodine_core::log::{self, Level};
use iodine_core::overload;
use iodine_core::realtime::Handler;
use iodine_core::static_files::{Reply, refusal};
use iodine_core::{Body, Job, Request};
use magnus::error::ErrorType;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::typed_data::Obj;
use magnus::{Error, Ruby};
use rb_sys::{ID, VALUE, ruby_value_type};
use std::ffi::c_long;
use std::sync::OnceLock;
use std::time::Instant;

/// What came of a request.
#[derive(Debug)]
pub struct Answered {
    /// How the client gets its answer.
    pub outcome: Outcome,
    /// For the log.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// Whether the log is to tell of it now.
    pub logged: bool,
    /// Whom to call when the answer has been given.
    pub callbacks: Callbacks,
    /// What the application failed with, for them.
    pub error: Option<Error>,
    /// Set when the thread was killed meanwhile: the caller lets it die when it has delivered this.
    pub killed: Option<Error>,
}

/// How the client gets its answer.
#[derive(Debug)]
pub enum Outcome {
    /// There is nothing to send: no client, or the socket is the application's now, or a stream's.
    Nothing,
    /// This is to be sent.
    Answer(Answer),
    /// It is on its way already; the job is the next one of the connection.
    Produced(Option<Job>),
    /// The connection has left HTTP: its events are the caller's to run.
    Upgraded,
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

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names of methods, looked up once.
#[derive(Debug)]
pub struct Ids {
    /// `each`
    pub each: ID,
    /// `to_s`
    pub to_s: ID,
    /// `take`
    pub take: ID,
    call: ID,
    close: ID,
}

/// Names of methods, looked up once. The GVL is held.
pub fn ids() -> &'static Ids {
    static IDS: OnceLock<Ids> = OnceLock::new();
    IDS.get_or_init(|| {
        // SAFETY: the GVL is held.
        let id = |name: &str| unsafe { rb_sys::rb_intern2(name.as_ptr().cast(), name.len() as c_long) };
        Ids { each: id("each"), to_s: id("to_s"), take: id("take"), call: id("call"), close: id("close") }
    })
}

/// Runs `request` through its application. The GVL is held; never raises.
pub fn answer_request(ruby: &Ruby, request: &mut Request) -> Answered {
    let mut answered = Answered {
        outcome: Outcome::Nothing,
        status: 0,
        length: 0,
        logged: false,
        callbacks: Callbacks::none(),
        error: None,
        killed: None,
    };
    let Some(number) = request.conn.begin() else { return answered };
    if let Some(refused) = overload::refusal(request, Instant::now) {
        (answered.status, answered.length) = (refused.status, refused.length);
        answered.outcome = Outcome::Answer(refused.answer);
        answered.logged = true;
        return answered;
    }
    let body = std::mem::take(&mut request.body);
    let mut draft = Draft { head: Vec::with_capacity(512), ..Draft::default() };
    // On the stack, where the collector finds them.
    let nil = rb_sys::Qnil as VALUE;
    let mut held = Held { input: nil, body: nil, stream: None, callbacks: Callbacks::none() };
    let called = call(ruby, request, body, number, &mut draft, &mut held);
    let outcome = match fork::is_inert() {
        true => called.map(|_| Produce::Broken(None)),
        false => called.and_then(|rest| produce(ruby, request, number, rest, &mut draft, &mut held)),
    };
    if fork::is_inert() {
        // The end of this child, not of the request.
        if let Err(Failure::Raised(error)) = outcome {
            answered.killed = Some(error);
        }
        return answered;
    }
    answered.callbacks = held.callbacks;
    let streams_on = matches!(outcome, Ok(Produce::StreamsOn));
    if let (true, Some(stream)) = (streams_on, held.stream) {
        // Before `close` of the body: meanwhile another thread may close the stream.
        let logged = request.conn.service().http.log.is_some();
        let log = logged.then(|| (request.head.clone(), draft.status, request.started));
        Stream::outlive(stream, answered.callbacks, log);
        answered.callbacks = Callbacks::none();
    }
    let closed = close_body(held.body).map_err(Failure::Raised);
    let hijacked = request.conn.is_hijacked();
    match outcome {
        _ if held.input == nil || hijacked || streams_on => {}
        Ok(Produce::Upgraded) => input::end(held.input),
        _ => input::release(held.input),
    }
    answered.status = draft.status;
    if let Err(failure) = closed {
        answered.killed = report(failure, &mut answered.error);
    }
    // What `close` has to say changes nothing of the answer.
    match outcome {
        _ if hijacked => {
            if let Err(failure) = outcome {
                answered.killed = report(failure, &mut answered.error).or(answered.killed);
            }
            return answered;
        }
        Ok(Produce::Produced(next, length)) => {
            answered.length = length;
            answered.outcome = Outcome::Produced(next);
        }
        Ok(Produce::StreamsOn) => return answered,
        Ok(Produce::Broken(error)) => {
            answered.error = error.or(answered.error);
            return answered;
        }
        Ok(Produce::Upgraded) => answered.outcome = Outcome::Upgraded,
        Ok(Produce::Whole) => answered.send(draft),
        Ok(Produce::Refused(upgrade)) => {
            answered.killed = realtime::refused(ruby, upgrade.handler()).or(answered.killed);
            answered.send(draft);
        }
        Err(failure) => {
            answered.killed = report(failure, &mut answered.error).or(answered.killed);
            match held.stream {
                // Closed before: it is whole, whatever came then.
                Some(stream) if stream.is_whole() => {
                    answered.length = stream.length();
                    answered.outcome = Outcome::Produced(None);
                }
                stream => {
                    answered.callbacks.forget_answer();
                    // Some of it may have left already.
                    if stream.is_some_and(|stream| !stream.give_up()) {
                        return answered;
                    }
                    answered.send(failure_draft(request, request.conn.is_ending()));
                }
            }
        }
    }
    answered.logged = true;
    answered
}

impl Answered {
    fn send(&mut self, draft: Draft) {
        self.status = draft.status;
        self.length = draft.length;
        let body = draft.lent.or_else(|| (!draft.body.is_empty()).then_some(draft.body.into()));
        self.outcome = Outcome::Answer(Answer { head: draft.head, body, close: draft.close });
    }
}

/// What is left to close, or to call, when the application has returned.
struct Held {
    input: VALUE,
    body: VALUE,
    stream: Option<Obj<Stream>>,
    callbacks: Callbacks,
}

enum Failure {
    Raised(Error),
    Fault(Fault),
}

/// Calls the application and writes its answer, as far as that is there.
fn call(
    ruby: &Ruby,
    request: &Request,
    body: Body,
    number: u64,
    draft: &mut Draft,
    held: &mut Held,
) -> Result<Rest, Failure> {
    let app = roots::value(request.conn.service().app);
    let mut body = Some(body);
    let mut written = Ok(Rest::Nothing);
    let raised = gvl::protect(|| {
        let nil = rb_sys::Qnil as VALUE;
        let hijack = hijack::new(ruby, &request.conn, number);
        let (length, input) = match body.take() {
            None | Some(Body::Empty) => (0, nil),
            Some(body) => (body.len(), input::new(ruby, body)),
        };
        held.input = input;
        let early_hints =
            match request.conn.service().http.early_hints && request.facts.version >= Version::Http11 {
                true => early_hints::new(ruby, &request.conn, number).as_raw(),
                false => nil,
            };
        let parts = env::Parts { length, input, hijack: hijack.as_raw(), early_hints };
        let built = env::build(request, &parts);
        held.callbacks = built.callbacks;
        let env = built.callbacks.env;
        hijack::Hijack::set_env(hijack, env);
        // SAFETY: the GVL is held; what is raised is caught by `protect`.
        let answer = unsafe { rb_sys::rb_funcallv(app, ids().call, 1, &env) };
        let unpacked = response::unpack(answer);
        if unpacked.is_err() && request.conn.is_hijacked() {
            // What else it returns is ignored.
            return nil;
        }
        written = unpacked.and_then(|parts| {
            held.body = parts.2;
            (held.callbacks.status, held.callbacks.headers) = (parts.0, parts.1);
            if request.conn.is_hijacked() {
                return Ok(Rest::Nothing);
            }
            let rest = match upgrade::wanted(request, &built, parts.0) {
                Some(upgrade) => upgrade.write(draft, request, parts.1, parts.0),
                None => response::write(draft, request, parts),
            }?;
            request.conn.service().http.announce(&mut draft.head, &request.head);
            Ok(rest)
        });
        nil
    });
    match raised {
        Err(error) => Err(Failure::Raised(error)),
        Ok(_) => written.map_err(Failure::Fault),
    }
}

/// What came of the part of an answer that the application produces.
enum Produce {
    /// There is no such part: the draft is the answer.
    Whole,
    /// All of it is on its way: the next job of the connection, and the length.
    Produced(Option<Job>, u64),
    /// The application has kept the stream.
    StreamsOn,
    /// The client has gone, or was cut off; what those are told who wait for the end of the answer. Or the socket is the
    /// application's.
    Broken(Option<Error>),
    /// The connection has left HTTP.
    Upgraded,
    /// The draft is the answer, and this is not going to be.
    Refused(Upgrade),
}

/// Produces the body, or gives the socket away, as the answer wants it.
fn produce(
    ruby: &Ruby,
    request: &Request,
    number: u64,
    rest: Rest,
    draft: &mut Draft,
    held: &mut Held,
) -> Result<Produce, Failure> {
    let conn = &request.conn;
    let (body, open) = match rest {
        Rest::Nothing => return Ok(Produce::Whole),
        Rest::Hijack(callable) => {
            let head = std::mem::take(&mut draft.head);
            hijack::hand_over(ruby, conn, number, head, callable).map_err(Failure::Raised)?;
            return Ok(Produce::Broken(None));
        }
        Rest::Each(body, open) | Rest::Call(body, open) => (body, open),
        Rest::Refused(upgrade) => return Ok(Produce::Refused(upgrade)),
        Rest::Upgrade(upgrade, deflate) => {
            let head = std::mem::take(&mut draft.head);
            return begin_upgrade(ruby, request, number, head, |ruby| {
                upgrade.begin(ruby, request, held.callbacks.env, deflate)
            });
        }
    };
    let head = std::mem::take(&mut draft.head);
    let mut producer = Some(conn.produce(number, head, open));
    let streams = matches!(rest, Rest::Call(..));
    let run = gvl::protect(|| {
        let Some(producer) = producer.take() else { return rb_sys::Qnil as VALUE };
        let stream = stream::new(ruby, producer, open.is_chunked(), held.input);
        held.stream = Some(stream);
        match streams {
            true => {
                stream.announce();
                // SAFETY: the GVL is held; what is raised is caught by `protect`.
                unsafe { rb_sys::rb_funcallv(body, ids().call, 1, &stream.as_raw()) };
            }
            false => stream::run_each(body, stream),
        }
        rb_sys::Qnil as VALUE
    });
    run.map_err(Failure::Raised)?;
    let Some(stream) = held.stream else { return Ok(Produce::Broken(None)) };
    if fork::is_inert() {
        return Ok(Produce::Broken(None));
    }
    if streams && !stream.is_finished() {
        return Ok(Produce::StreamsOn);
    }
    if !streams {
        stream.expect_last_chunk(ruby).map_err(Failure::Raised)?;
    }
    let next = match stream.finish() {
        Ended::Whole(next) => next,
        Ended::Otherwise => None,
    };
    Ok(match stream.failure(ruby) {
        None => Produce::Produced(next, stream.length()),
        error => Produce::Broken(error),
    })
}

/// Makes the connection what `begin` says.
fn begin_upgrade(
    ruby: &Ruby,
    request: &Request,
    number: u64,
    head: Vec<u8>,
    begin: impl FnOnce(&Ruby) -> iodine_core::realtime::Upgrade,
) -> Result<Produce, Failure> {
    let mut begun = None;
    let made = gvl::protect(|| {
        begun = Some(begin(ruby));
        rb_sys::Qnil as VALUE
    });
    made.map_err(Failure::Raised)?;
    let Some(switch) = begun else { return Ok(Produce::Broken(None)) };
    let handler = switch.handler;
    if request.conn.upgrade(number, head, switch) {
        return Ok(Produce::Upgraded);
    }
    // There is no client any more, and nothing has begun.
    if let Handler::Object(root) = handler {
        roots::release(root);
    }
    Ok(Produce::Broken(None))
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

fn failure_draft(request: &Request, closing: bool) -> Draft {
    let refused = refusal(&request.conn.service().http, request.facts, 500, closing);
    let Reply { status, mut head, length, close, .. } = refused;
    request.conn.service().http.announce(&mut head, &request.head);
    Draft { status, head, length, close, ..Draft::default() }
}

/// Logs a failure and notes it. Returns the error that must go on, because it is the death of this thread.
fn report(failure: Failure, noted: &mut Option<Error>) -> Option<Error> {
    match failure {
        Failure::Fault(Fault(text)) => {
            log::message(Level::Error, &format!("the answer can not be sent: {text}."));
            None
        }
        Failure::Raised(error) => {
            *noted = Some(error.clone());
            match stream::is_disconnect(&error) {
                // Nobody is to blame, and nobody waits for an answer.
                true => None,
                false => report_error(error),
            }
        }
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
