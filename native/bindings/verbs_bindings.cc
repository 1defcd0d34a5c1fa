#include "bindings/verbs_bindings.h"

#include <memory>

#include "bindings/transport_bindings.h"
#include "bindings/verbs_domain.h"
#include "bindings/verbs_queue_pair.h"
#include "bindings/verbs_region.h"

namespace rdma_migrate::bindings {

void init_verbs(Napi::Env env, Napi::Object exports) {
  const auto define = [env](auto function) { return Napi::Persistent(function(env)); };
  const auto classes = std::make_shared<const VerbsClasses>(
      VerbsClasses{define(VerbsDomainBinding::define), define(VerbsRegionBinding::define),
                   define(VerbsQueuePairBinding::define)});
  const auto open_domain = [classes](const Napi::CallbackInfo& info) -> Napi::Value {
    return VerbsDomainBinding::create(info.Env(), classes, provider_argument(info));
  };
  exports.Set("openVerbsDomain", Napi::Function::New(env, open_domain, "openVerbsDomain"));
}

}  // namespace rdma_migrate::bindings
