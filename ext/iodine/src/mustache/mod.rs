//! `Iodine::Mustache`: templates, compiled once and rendered over Ruby values. Documented in `lib/iodine/mustache.rb`.
//!
//! Differs from 0.7 where that was at fault (F51 to F58).

mod files;
mod scope;

use crate::gvl;
use files::{Files, Missing};
use iodine_codec::mustache::{Failure, Fault, Halt, Output, Template, compile};
use magnus::gc::Marker;
use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::typed_data::Obj;
use magnus::value::ReprValue;
use magnus::{
    Class, DataTypeFunctions, Error, ExceptionClass, Module, Object, RArray, RHash, RString, Ruby,
    TryConvert, TypedData, Value, function, method,
};
use rb_sys::VALUE;
use scope::RubyScope;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A template as Ruby sees it; empty until `initialize` was called.
#[derive(TypedData, Default)]
#[magnus(class = "Iodine::Mustache", free_immediately, mark, size)]
pub struct Mustache(RefCell<Option<Compiled>>);

#[derive(Clone)]
struct Compiled {
    template: Arc<Template>,
    /// See `RubyScope`. Reached by `mark`.
    keys: VALUE,
    /// The size of the last text, as a guess at the next one's.
    size: Arc<AtomicUsize>,
}

impl DataTypeFunctions for Mustache {
    fn mark(&self, marker: &Marker) {
        // While it is borrowed for writing nothing calls Ruby, so that the collector finds it free.
        if let Ok(compiled) = self.0.try_borrow() {
            if let Some(compiled) = &*compiled {
                // SAFETY: a live Array that has been marked ever since it was made.
                marker.mark(unsafe { Value::from_raw(compiled.keys) });
            }
        }
    }
}

/// Defines the class.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let class = ruby.define_module("Iodine")?.define_class("Mustache", ruby.class_object())?;
    class.define_alloc_func::<Mustache>();
    class.define_method("initialize", method!(Mustache::initialize, -1))?;
    class.define_method("initialize_copy", method!(Mustache::initialize_copy, 1))?;
    class.define_method("render", method!(Mustache::render, 1))?;
    class.define_singleton_method("render", function!(render_once, -1))?;
    Ok(())
}

impl Mustache {
    fn initialize(ruby: &Ruby, this: &Mustache, arguments: &[Value]) -> Result<(), Error> {
        let source = match *arguments {
            [only] if is_hash(only) => Source::named(ruby, RHash::try_convert(only)?)?,
            [filename] => Source::new(ruby, Some(filename), None)?,
            [filename, template] => Source::new(ruby, Some(filename), Some(template))?,
            _ => return Err(argument_error(ruby, "expecting 1..2 arguments or named arguments.")),
        };
        let compiled = source.compile(ruby)?;
        this.0.replace(Some(compiled));
        Ok(())
    }

    fn initialize_copy(this: Obj<Mustache>, other: Obj<Mustache>) -> Obj<Mustache> {
        let compiled = other.0.borrow().clone();
        this.0.replace(compiled);
        this
    }

    fn render(ruby: &Ruby, this: Obj<Mustache>, data: Value) -> Result<Value, Error> {
        let compiled = this.0.borrow().clone();
        compiled.ok_or_else(|| not_rendered(ruby))?.render(ruby, data)
    }
}

fn render_once(ruby: &Ruby, arguments: &[Value]) -> Result<Value, Error> {
    let (source, data) = match *arguments {
        [only] => {
            let named = RHash::try_convert(only)?;
            (Source::named(ruby, named)?, named_argument(ruby, named, "data"))
        }
        [filename, data] => (Source::new(ruby, Some(filename), None)?, Some(data)),
        [filename, data, template] => (Source::new(ruby, Some(filename), Some(template))?, Some(data)),
        _ => return Err(argument_error(ruby, "expecting 2..3 arguments or named arguments.")),
    };
    let data = data.unwrap_or(ruby.qnil().as_value());
    source.compile(ruby)?.render(ruby, data)
}

fn is_hash(value: Value) -> bool {
    RHash::from_value(value).is_some()
}

fn named_argument(ruby: &Ruby, arguments: RHash, name: &str) -> Option<Value> {
    arguments.get(ruby.to_symbol(name))
}

/// Where a template comes from: a file, or a text with a file's name.
struct Source {
    filename: Option<RString>,
    text: Option<RString>,
}

impl Source {
    fn new(ruby: &Ruby, filename: Option<Value>, text: Option<Value>) -> Result<Source, Error> {
        let given = |value: Option<Value>| value.filter(|value| !value.is_nil());
        let string = |value: Value| {
            RString::from_value(value).ok_or_else(|| {
                let message = format!("wrong argument type {} (expected String)", class_name(value));
                Error::new(ruby.exception_type_error(), message)
            })
        };
        let filename = given(filename).map(string).transpose()?;
        let text = given(text).map(string).transpose()?;
        if filename.is_none() && text.is_none() {
            return Err(argument_error(ruby, "need either template contents or file name."));
        }
        Ok(Source { filename, text })
    }

    fn named(ruby: &Ruby, arguments: RHash) -> Result<Source, Error> {
        let named = |name| named_argument(ruby, arguments, name);
        Source::new(ruby, named("filename"), named("template"))
    }

    fn compile(&self, ruby: &Ruby) -> Result<Compiled, Error> {
        // Copied, so that Ruby may run in between.
        let name = self.filename.map(|name| copy(name.as_raw()));
        let (mut files, text) = match self.text {
            Some(text) => {
                let text = gvl::protect(|| scope::as_utf8(text.as_raw()))?;
                let files = Files::around(name.as_deref()).map_err(|missing| not_found(ruby, missing))?;
                (files, copy(text))
            }
            None => Files::open(&name.unwrap_or_default()).map_err(|missing| not_found(ruby, missing))?,
        };
        let template = compile(text, &mut files).map_err(|failure| not_compiled(ruby, failure, &files))?;
        let keys = gvl::protect(|| scope::make_keys(template.key_count(), template.keys()))?;
        Ok(Compiled { template: Arc::new(template), keys, size: Arc::default() })
    }
}

/// The class of a value of the wrong type, as Ruby's own messages show it.
fn class_name(value: Value) -> String {
    match value.is_nil() {
        true => "nil".to_owned(),
        // SAFETY: copied at once.
        false => unsafe { value.classname() }.into_owned(),
    }
}

fn copy(string: VALUE) -> Vec<u8> {
    scope::bytes(&string).to_vec()
}

impl Compiled {
    /// The whole rendering is one protected call. What it writes into is owned out here, because a raise skips destructors.
    fn render(&self, ruby: &Ruby, data: Value) -> Result<Value, Error> {
        let mut output = Output::with_capacity(self.size.load(Ordering::Relaxed));
        let mut scope = RubyScope::new(self.keys);
        let mut rendered = Ok(());
        let text = gvl::protect(|| {
            rendered = self.template.render(&mut scope, data.as_raw(), &mut output);
            match rendered {
                Ok(()) => scope::utf8(output.as_bytes()),
                Err(_) => rb_sys::Qnil as VALUE,
            }
        })?;
        rendered.map_err(|halt| match halt {
            Halt::TooDeep => not_rendered(ruby),
            Halt::Scope(error) => error,
        })?;
        self.size.store(output.as_bytes().len(), Ordering::Relaxed);
        // The collector finds the keys of a template that nobody else keeps on this frame of the stack.
        std::hint::black_box(&scope);
        // SAFETY: the String made above.
        Ok(unsafe { Value::from_raw(text) })
    }
}

// --- errors: the words are those of 0.7 ----------------------------------------------------------------------------

fn argument_error(ruby: &Ruby, message: &'static str) -> Error {
    Error::new(ruby.exception_arg_error(), message)
}

fn runtime_error(ruby: &Ruby, message: &'static str) -> Error {
    Error::new(ruby.exception_runtime_error(), message)
}

fn not_rendered(ruby: &Ruby) -> Error {
    runtime_error(ruby, "Couldn't build template frome data.")
}

fn not_found(ruby: &Ruby, missing: Missing) -> Error {
    match missing {
        Missing::NoName => runtime_error(ruby, NO_FILE_NAME),
        Missing::NameTooLong => runtime_error(ruby, NAME_TOO_LONG),
        Missing::NotFound(name) => {
            let path = ruby.enc_str_new(&name, ruby.utf8_encoding());
            exception(ruby.exception_load_error(), "Iodine::Mustache template not found.", |error| {
                error.funcall::<_, _, Value>("instance_variable_set", ("@path", path)).map(|_| ())
            })
        }
    }
}

const NO_FILE_NAME: &str = "Iodine::Mustache template file name too long.";
const NAME_TOO_LONG: &str = "Iodine::Mustache template name too long.";

/// The place in the template is the first line of the backtrace, and what is missing is the `path` of a LoadError.
fn not_compiled(ruby: &Ruby, failure: Failure<Missing>, files: &Files) -> Error {
    let (fault, unit, line) = match failure {
        Failure::Loader(missing) => return not_found(ruby, missing),
        Failure::Template { fault, unit, line } => (fault, unit, line),
    };
    let message = match fault {
        Fault::ClosureMismatch => "Iodine::Mustache template error, closure mismatch.",
        Fault::NoName => "Iodine::Mustache template error, a tag has no name.",
        Fault::NoPartialName => NO_FILE_NAME,
        Fault::BlankPartialName => NAME_TOO_LONG,
        Fault::DelimiterTooLong => "Iodine::Mustache new delimiter is too long.",
        Fault::NestingTooDeep => "Iodine::Mustache element nesting too deep.",
    };
    let place = format!("{}:{line}", files.path(unit));
    exception(ruby.exception_runtime_error(), message, |error| {
        // SAFETY: the GVL is held, and what is raised is caught.
        let callers = gvl::protect(|| unsafe { rb_sys::rb_make_backtrace() })?;
        // SAFETY: the value that was just made.
        let trace = RArray::try_convert(unsafe { Value::from_raw(callers) })?;
        trace.unshift(place.as_str())?;
        error.funcall::<_, _, Value>("set_backtrace", (trace,)).map(|_| ())
    })
}

/// An exception with something more than its message.
fn exception(
    class: ExceptionClass,
    message: &str,
    complete: impl FnOnce(&magnus::Exception) -> Result<(), Error>,
) -> Error {
    match class.new_instance((message,)) {
        Ok(exception) => complete(&exception).map_or_else(|error| error, |()| exception.into()),
        Err(error) => error,
    }
}
