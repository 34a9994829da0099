#include "backend/cuda/nccl_library.h"

#include <dlfcn.h>

#include "base/error.h"

namespace moe::cuda {
namespace {

constexpr const char* kFile = "libnccl.so.2";

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) fail("{} has no function {}: install a newer NCCL 2", kFile, name);
}

NcclLibrary load() {
  void* const library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);  // stays until the process ends
  if (library == nullptr) {
    fail(
        "cannot load {} ({}), which carries data between GPUs: install NCCL 2 (package libnccl2), name its folder in "
        "LD_LIBRARY_PATH, or use one rank",
        kFile, dlerror());
  }
  NcclLibrary n{};
  find(library, "ncclGetErrorString", n.GetErrorString);
  find(library, "ncclGetLastError", n.GetLastError);
  find(library, "ncclGetVersion", n.GetVersion);
  find(library, "ncclGetUniqueId", n.GetUniqueId);
  find(library, "ncclCommInitRank", n.CommInitRank);
  find(library, "ncclCommDestroy", n.CommDestroy);
  find(library, "ncclCommAbort", n.CommAbort);
  find(library, "ncclAllReduce", n.AllReduce);
  find(library, "ncclBroadcast", n.Broadcast);
  return n;
}

}  // namespace

const NcclLibrary& nccl() {
  static const NcclLibrary library = load();
  return library;
}

}  // namespace moe::cuda
