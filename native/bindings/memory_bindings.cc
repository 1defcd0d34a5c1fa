#include "bindings/memory_bindings.h"

#include <optional>
#include <string>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/memory_bitmap.h"
#include "bindings/memory_coverage.h"
#include "bindings/memory_mapping.h"
#include "bindings/memory_pages.h"

namespace rdma_migrate::bindings {
namespace {

// The classes of one environment. A class is defined once in each: V8 keeps every definition for the
// environment's life.
struct Classes {
  Napi::FunctionReference mapping;
  Napi::FunctionReference bitmap;
  Napi::FunctionReference coverage;
  Napi::FunctionReference page_reader;
  Napi::FunctionReference page_writer;
};
using SharedClasses = std::shared_ptr<Classes>;

template <typename Open>
Napi::Value open_mapping(Napi::Env env, const SharedClasses& classes, Open open) {
  return run_async(env, WorkLane::kBulk, std::move(open),
                   [classes](Napi::Env, std::shared_ptr<memory::Mapping> mapping) -> Napi::Value {
                     return MappingBinding::create(classes->mapping.Value(), std::move(mapping));
                   });
}

Napi::Value map_memfd(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  const Napi::Object options = object_argument(info, 0, "options");
  const std::string name = text_property(options, "name");
  const uint64_t length = u64_property(options, "length");
  const Napi::Value huge = options.Get("hugePageSize");
  const uint64_t huge_page_size = huge.IsUndefined() ? 0 : to_u32(huge, "hugePageSize");
  return open_mapping(info.Env(), classes,
                      [=] { return memory::Mapping::memfd(name, length, huge_page_size); });
}

memory::FileMode file_mode(const Napi::Object& options) {
  const std::string mode = text_property(options, "mode");
  if (mode == "create") return memory::FileMode::kCreate;
  if (mode == "write") return memory::FileMode::kWrite;
  if (mode == "read") return memory::FileMode::kRead;
  throw Error("INVALID_ARGUMENT", "expected create, write or read for mode but received " + mode);
}

Napi::Value map_file(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  const Napi::Object options = object_argument(info, 0, "options");
  const std::string path = text_property(options, "path");
  const uint64_t length = u64_property(options, "length");
  const memory::FileMode mode = file_mode(options);
  return open_mapping(info.Env(), classes, [=] { return memory::Mapping::file(path, length, mode); });
}

Napi::Value map_caller(const Napi::CallbackInfo& info, const SharedClasses& classes) {
  const Napi::Object options = object_argument(info, 0, "options");
  const uint64_t address = u64_property(options, "address");
  const uint64_t length = u64_property(options, "length");
  const Napi::Value file = options.Get("fd");
  const uint32_t fd = file.IsUndefined() ? 0 : to_u32(file, "fd");
  if (fd > INT32_MAX) throw Error("INVALID_ARGUMENT", "fd " + std::to_string(fd) + " is no file descriptor");
  const int given = file.IsUndefined() ? -1 : static_cast<int>(fd);
  const Napi::Value dumped = options.Get("coreDumps");
  if (!dumped.IsUndefined() && !dumped.IsBoolean()) throw bad_argument(info.Env(), "coreDumps", "a boolean");
  using memory::Mapping;
  const bool leave_out = dumped.IsBoolean() && !dumped.As<Napi::Boolean>().Value();
  const auto dumps = leave_out ? Mapping::CoreDumps::kLeaveOut : Mapping::CoreDumps::kAsTheyAre;
  return open_mapping(info.Env(), classes, [=] { return Mapping::caller(address, length, given, dumps); });
}

// Exports a function that throws, or one that answers with a promise.
template <typename Body>
void export_function(Napi::Object exports, const SharedClasses& classes, const char* name, Body body) {
  exports.Set(name, Napi::Function::New(
                        exports.Env(),
                        [classes, body](const Napi::CallbackInfo& info) -> Napi::Value {
                          return guarded(info.Env(), [&]() -> Napi::Value { return body(info, classes); });
                        },
                        name));
}
template <typename Body>
void export_async(Napi::Object exports, const SharedClasses& classes, const char* name, Body body) {
  exports.Set(name, Napi::Function::New(
                        exports.Env(),
                        [classes, body](const Napi::CallbackInfo& info) -> Napi::Value {
                          return guarded_promise(info.Env(),
                                                 [&]() -> Napi::Value { return body(info, classes); });
                        },
                        name));
}

}  // namespace

void init_memory(Napi::Env env, Napi::Object exports) {
  const auto classes = std::make_shared<Classes>();
  classes->mapping = Napi::Persistent(MappingBinding::define(env));
  classes->bitmap = Napi::Persistent(BitmapBinding::define(env));
  classes->coverage = Napi::Persistent(CoverageBinding::define(env));
  classes->page_reader = Napi::Persistent(PageReaderBinding::define(env));
  classes->page_writer = Napi::Persistent(PageWriterBinding::define(env));
  export_async(exports, classes, "mapMemfd", map_memfd);
  export_async(exports, classes, "mapFile", map_file);
  export_async(exports, classes, "mapCaller", map_caller);
  export_function(exports, classes, "createBitmap",
                  [](const Napi::CallbackInfo& info, const SharedClasses& own) {
                    return BitmapBinding::create(own->bitmap.Value(), info[0]);
                  });
  export_function(exports, classes, "createCoverage",
                  [](const Napi::CallbackInfo& info, const SharedClasses& own) {
                    return CoverageBinding::create(own->coverage.Value(), info[0], info[1]);
                  });
  export_function(exports, classes, "createPageReader",
                  [](const Napi::CallbackInfo& info, const SharedClasses& own) {
                    return PageReaderBinding::create(own->page_reader.Value(), info[0]);
                  });
  export_function(exports, classes, "createPageWriter",
                  [](const Napi::CallbackInfo& info, const SharedClasses& own) {
                    return PageWriterBinding::create(own->page_writer.Value(), info[0]);
                  });
}

}  // namespace rdma_migrate::bindings
