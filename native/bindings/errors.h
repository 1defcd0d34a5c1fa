// How an rdma_migrate::Error becomes a JavaScript Error, thrown or as a rejection.
#pragma once

#include <napi.h>

#include <exception>
#include <new>
#include <system_error>

#include "error.h"
#include "thread.h"

namespace rdma_migrate::bindings {

// An Error with `code`, `errno` where a system call was behind it, and `privateData` where a peer said some.
inline Napi::Error to_js_error(Napi::Env env, const Error& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("code", Napi::String::New(env, error.code()));
  if (error.sys_errno() != 0) js.Set("errno", Napi::Number::New(env, error.sys_errno()));
  if (const auto& data = error.private_data(); !data.empty())
    js.Set("privateData", Napi::Buffer<uint8_t>::Copy(env, data.data(), data.size()));
  return js;
}

// The exception that is being handled, as an Error. Call it from a catch block only.
inline Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error("OUT_OF_MEMORY", "the process has no memory left for this operation");
  } catch (const std::system_error& error) {
    return thread_limit(error.code().value());
  } catch (const std::exception& error) {
    return Error("INTERNAL", error.what());
  }
}

// Runs the body of a synchronous JavaScript function; what it throws is thrown in JavaScript.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, current_error());
  }
}

inline Napi::Promise rejected_promise(Napi::Env env, const Napi::Error& error) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(error.Value());
  return deferred.Promise();
}

// Runs the body of a JavaScript function that answers with a promise; what it throws is a rejection, so that
// callers have one way to handle errors.
template <typename Body>
Napi::Value guarded_promise(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error& error) {
    return rejected_promise(env, error);
  } catch (...) {
    return rejected_promise(env, to_js_error(env, current_error()));
  }
}

}  // namespace rdma_migrate::bindings
