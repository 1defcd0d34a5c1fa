#include "bindings/device_bindings.h"

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/async.h"
#include "bindings/options.h"
#include "fabric/plugin.h"

namespace rdma_migrate::bindings {
namespace {

Napi::Value to_js(Napi::Env env, const fabric::Gid& gid) {
  auto value = Napi::Object::New(env);
  value.Set("index", gid.index);
  value.Set("gid", gid.gid);
  value.Set("type", gid.type);
  value.Set("netdev", gid.netdev);
  return value;
}

Napi::Value to_js(Napi::Env env, const std::string& text) { return Napi::String::New(env, text); }

template <typename T>
Napi::Array list_to_js(Napi::Env env, const std::vector<T>& list);

Napi::Value to_js(Napi::Env env, const fabric::DevicePort& port) {
  auto value = Napi::Object::New(env);
  value.Set("number", port.number);
  value.Set("state", port.state);
  value.Set("linkLayer", port.link_layer);
  value.Set("activeMtu", port.active_mtu);
  value.Set("gids", list_to_js(env, port.gids));
  return value;
}

Napi::Value to_js(Napi::Env env, const fabric::Device& device) {
  auto limits = Napi::Object::New(env);
  limits.Set("maxMrSize", Napi::BigInt::New(env, device.max_mr_size));
  limits.Set("maxMr", device.max_mr);
  limits.Set("maxQp", device.max_qp);
  limits.Set("maxQpWr", device.max_qp_wr);
  limits.Set("maxCqe", device.max_cqe);
  limits.Set("maxQpRdAtom", device.max_qp_rd_atom);
  auto value = Napi::Object::New(env);
  value.Set("name", device.name);
  value.Set("transport", device.transport);
  value.Set("firmware", device.firmware);
  value.Set("problem", device.problem);
  value.Set("limits", limits);
  value.Set("ports", list_to_js(env, device.ports));
  value.Set("addresses", list_to_js(env, device.addresses));
  return value;
}

template <typename T>
Napi::Array list_to_js(Napi::Env env, const std::vector<T>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (size_t at = 0; at < list.size(); ++at) array.Set(static_cast<uint32_t>(at), to_js(env, list[at]));
  return array;
}

Napi::Value to_js(Napi::Env env, const fabric::Reach& reach) {
  auto value = Napi::Object::New(env);
  value.Set("reachable", reach.reachable);
  value.Set("device", reach.device);
  value.Set("port", reach.port);
  value.Set("reason", reach.reason);
  return value;
}

Napi::Value to_js(Napi::Env env, const fabric::Proof& proof) {
  auto value = Napi::Object::New(env);
  value.Set("ok", proof.ok);
  value.Set("address", proof.address);
  value.Set("bytes", Napi::BigInt::New(env, proof.bytes));
  value.Set("milliseconds", proof.milliseconds);
  value.Set("message", proof.message);
  return value;
}

Napi::Value verbs_problem(const Napi::CallbackInfo& info) {
  try {
    device_provider();
    return info.Env().Null();
  } catch (const fabric::PluginError& error) {
    auto value = Napi::Object::New(info.Env());
    value.Set("message", error.what());
    value.Set("reason", error.reason());
    value.Set("remedy", error.remedy());
    return value;
  }
}

Napi::Value list_devices(const Napi::CallbackInfo& info) {
  return run_async(
      info.Env(), WorkLane::kLookUp, [] { return device_provider()->devices(); },
      [](Napi::Env env, std::vector<fabric::Device> devices) -> Napi::Value {
        return list_to_js(env, devices);
      });
}

Napi::Value find_device(const Napi::CallbackInfo& info) {
  auto address = endpoint(object_argument(info, 0, "endpoint"));
  const std::string direction = to_text(info[1], "direction");
  if (direction != "connect" && direction != "listen")
    throw bad_argument(info.Env(), "direction", "'connect' or 'listen'");
  const auto wanted = direction == "connect" ? fabric::Direction::kConnect : fabric::Direction::kListen;
  const std::chrono::milliseconds timeout(u32_argument(info, 2, "timeoutMs"));
  return run_async(
      info.Env(), WorkLane::kLookUp,
      [address, wanted, timeout] { return device_provider()->reach(address, wanted, timeout); },
      [](Napi::Env env, const fabric::Reach& reach) { return to_js(env, reach); });
}

Napi::Value prove_device(const Napi::CallbackInfo& info) {
  const std::string device = to_text(info[0], "device");
  const std::chrono::milliseconds timeout(u32_argument(info, 1, "timeoutMs"));
  return run_async(
      info.Env(), WorkLane::kLookUp, [device, timeout] { return device_provider()->prove(device, timeout); },
      [](Napi::Env env, const fabric::Proof& proof) { return to_js(env, proof); });
}

// Of the process: the plugin is loaded once for all environments.
struct Plugin {
  std::mutex mutex;
  std::string build;
  std::shared_ptr<fabric::DeviceProvider> provider;
};

Plugin& plugin() {
  static Plugin one;
  return one;
}

void set_build_command(const Napi::CallbackInfo& info) {
  std::string command = to_text(info[0], "command");
  std::lock_guard lock(plugin().mutex);
  plugin().build = std::move(command);
}

}  // namespace

std::shared_ptr<fabric::DeviceProvider> device_provider() {
  auto& [mutex, build, provider] = plugin();
  std::lock_guard lock(mutex);
  if (!provider) provider = fabric::load_device_provider(fabric::own_folder(), build);
  return provider;
}

void init_devices(Napi::Env env, Napi::Object exports) {
  exports.Set("setBuildCommand", Napi::Function::New<set_build_command>(env, "setBuildCommand"));
  exports.Set("verbsProblem", Napi::Function::New<verbs_problem>(env, "verbsProblem"));
  exports.Set("listDevices", Napi::Function::New<list_devices>(env, "listDevices"));
  exports.Set("findDevice", Napi::Function::New<find_device>(env, "findDevice"));
  exports.Set("proveDevice", Napi::Function::New<prove_device>(env, "proveDevice"));
}

}  // namespace rdma_migrate::bindings
