//! Limits and timeouts as the Ruby side gives them, and as they are when it does not.

use super::{duration, files, option, request_log};
use iodine_codec::http::Trust;
use iodine_codec::http1::Limits;
use iodine_codec::websocket::DeflateConfig;
use iodine_core::config::RealtimeConfig;
use iodine_core::realtime::SlowConsumer;
use iodine_core::{HttpConfig, ReactorConfig};
use magnus::{Error, Object, RHash, RModule, Ruby, function};
use std::time::Duration;

/// Defines the primitives.
pub fn init(base: RModule) -> Result<(), Error> {
    base.define_singleton_method("usual_limits", function!(usual_limits, 0))
}

/// The limits of a listener. What is missing in `options` is as usual.
pub fn http_config(ruby: &Ruby, options: RHash) -> Result<HttpConfig, Error> {
    let usual = HttpConfig::default();
    let sizes = usual.limits;
    let given = |name| -> Result<Option<Duration>, Error> {
        option::<f64>(ruby, options, name)?.map(|seconds| duration(ruby, seconds)).transpose()
    };
    let seconds = |name, usual| given(name).map(|given| given.unwrap_or(usual));
    let log = request_log::of(ruby, options)?;
    Ok(HttpConfig {
        limits: Limits {
            line: option(ruby, options, "line")?.unwrap_or(sizes.line),
            head: option(ruby, options, "head")?.unwrap_or(sizes.head),
            headers: option(ruby, options, "headers")?.unwrap_or(sizes.headers),
            body: option(ruby, options, "body")?.unwrap_or(sizes.body),
        },
        keep_alive: seconds("keep_alive", usual.keep_alive)?,
        head_timeout: seconds("head_timeout", usual.head_timeout)?,
        body_timeout: seconds("body_timeout", usual.body_timeout)?,
        write_timeout: seconds("write_timeout", usual.write_timeout)?,
        linger_timeout: seconds("linger_timeout", usual.linger_timeout)?,
        max_queue: option(ruby, options, "max_queue")?,
        queue_timeout: given("queue_timeout")?,
        body_memory: option(ruby, options, "body_memory")?.unwrap_or(usual.body_memory),
        request_id: request_log::wants_request_id(ruby, options, log.as_ref())?,
        request_id_response: option(ruby, options, "request_id_response")?
            .unwrap_or(usual.request_id_response),
        log,
        early_hints: option(ruby, options, "early_hints")?.unwrap_or(usual.early_hints),
        trust: trust(ruby, options)?,
        proxy_protocol: option(ruby, options, "proxy_protocol")?.unwrap_or(usual.proxy_protocol),
        underscore_headers: option(ruby, options, "underscore_headers")?.unwrap_or(usual.underscore_headers),
        files: files::of(ruby, options)?,
        files_only: option(ruby, options, "files_only")?.unwrap_or(usual.files_only),
    })
}

/// How real-time connections are kept. What is missing in `options` is as usual.
pub fn realtime_config(ruby: &Ruby, options: RHash) -> Result<RealtimeConfig, Error> {
    let usual = RealtimeConfig::default();
    let ping = option::<f64>(ruby, options, "ping")?.map(|seconds| duration(ruby, seconds)).transpose()?;
    let drop: Option<bool> = option(ruby, options, "drop_slow")?;
    Ok(RealtimeConfig {
        ping: ping.unwrap_or(usual.ping),
        max_message: option(ruby, options, "max_message")?.unwrap_or(usual.max_message),
        max_backlog: option(ruby, options, "max_backlog")?.unwrap_or(usual.max_backlog),
        slow_consumer: match drop {
            Some(true) => SlowConsumer::Drop,
            Some(false) | None => SlowConsumer::Close,
        },
        deflate: deflate(ruby, options)?,
        outlasts: option(ruby, options, "outlasts")?.unwrap_or(false),
    })
}

fn deflate(ruby: &Ruby, options: RHash) -> Result<Option<DeflateConfig>, Error> {
    if option(ruby, options, "deflate")? != Some(true) {
        return Ok(None);
    }
    let usual = DeflateConfig::default();
    Ok(Some(DeflateConfig {
        context_takeover: option(ruby, options, "deflate_context_takeover")?
            .unwrap_or(usual.context_takeover),
        window_bits: option(ruby, options, "deflate_window_bits")?.unwrap_or(usual.window_bits),
        level: option(ruby, options, "deflate_level")?.unwrap_or(usual.level),
        threshold: option(ruby, options, "deflate_threshold")?.unwrap_or(usual.threshold),
    }))
}

fn trust(ruby: &Ruby, options: RHash) -> Result<Trust, Error> {
    let list: Vec<String> = option(ruby, options, "trusted_proxies")?.unwrap_or_default();
    Trust::parse(list.iter().map(String::as_str)).map_err(|bad| {
        let class = ruby.exception_arg_error();
        Error::new(class, format!("trusted_proxies: {bad}"))
    })
}

/// The limits of a process. What is missing in `options` is as usual.
pub fn reactor_config(ruby: &Ruby, options: RHash) -> Result<ReactorConfig, Error> {
    let usual = ReactorConfig::default();
    Ok(ReactorConfig {
        max_connections: option(ruby, options, "max_clients")?.unwrap_or(usual.max_connections),
        reserved_descriptors: option(ruby, options, "reserved_descriptors")?
            .unwrap_or(usual.reserved_descriptors),
        max_jobs: option(ruby, options, "max_jobs")?.unwrap_or(usual.max_jobs),
        place: None,
    })
}

/// `usual_limits`: by the names that `Iodine.listen` knows, in bytes, seconds and pieces; nil is no limit.
fn usual_limits(ruby: &Ruby) -> Result<RHash, Error> {
    let http = HttpConfig::default();
    let realtime = RealtimeConfig::default();
    let reactor = ReactorConfig::default();
    let hash = ruby.hash_new();
    for (name, count) in [
        ("max_line", Some(http.limits.line as u64)),
        ("max_headers", Some(http.limits.head as u64)),
        ("max_header_count", Some(http.limits.headers as u64)),
        ("max_body", Some(http.limits.body)),
        ("body_memory", Some(http.body_memory as u64)),
        ("max_msg", Some(realtime.max_message as u64)),
        ("max_backlog", Some(realtime.max_backlog as u64)),
        ("max_queue", http.max_queue.map(|count| count as u64)),
        ("max_clients", Some(reactor.max_connections as u64)),
        ("max_jobs", Some(reactor.max_jobs as u64)),
        ("reserved_descriptors", Some(reactor.reserved_descriptors)),
    ] {
        hash.aset(ruby.to_symbol(name), count)?;
    }
    for (name, time) in [
        ("ping", Some(realtime.ping)),
        ("timeout", Some(http.keep_alive)),
        ("head_timeout", Some(http.head_timeout)),
        ("body_timeout", Some(http.body_timeout)),
        ("write_timeout", Some(http.write_timeout)),
        ("linger_timeout", Some(http.linger_timeout)),
        ("queue_timeout", http.queue_timeout),
    ] {
        hash.aset(ruby.to_symbol(name), time.map(|time| time.as_secs_f64()))?;
    }
    Ok(hash)
}
