#include "nn/parameter.h"

namespace moe {

const char* name(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::embedding:
      return "embedding";
    case ParameterKind::head:
      return "head";
    case ParameterKind::norm:
      return "norms";
    case ParameterKind::attention:
      return "attention";
    case ParameterKind::dense_ffn:
      return "dense FFN";
    case ParameterKind::router:
      return "routers";
    case ParameterKind::light_router:
      return "light routers";
    case ParameterKind::router_state:
      return "router state";
    case ParameterKind::routed_experts:
      return "routed experts";
    case ParameterKind::shared_experts:
      return "shared experts";
  }
  return "?";
}

}  // namespace moe
