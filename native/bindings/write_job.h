// NativeWriteJob and the writer's counters of lib/native/transport.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "engine/write_job.h"

namespace rdma_migrate::bindings {

// Checked: the spans lie within their mapping, its bitmap and its digests. Throws a JavaScript Error.
engine::WriteJob write_job_from_js(const Napi::Object& job);
Napi::Object write_result_to_js(Napi::Env env, const engine::WriteResult& result);
// A BigUint64Array over the counters themselves, which it keeps.
Napi::Object counters_to_js(Napi::Env env, std::shared_ptr<engine::WriterCounters> counters);

}  // namespace rdma_migrate::bindings
