#include "backend/cuda/nccl_library.h"

#include <dlfcn.h>

#include "backend/cuda/library_function.h"
#include "base/error.h"

namespace moe::cuda {
namespace {

constexpr const char* kFile = "libnccl.so.2";

NcclLibrary load() {
  void* const library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);  // stays until the process ends
  if (library == nullptr) {
    fail(
        "cannot load {} ({}), which carries data between GPUs: install NCCL 2 (package libnccl2), name its folder in "
        "LD_LIBRARY_PATH, or use one rank",
        kFile, dlerror());
  }
  NcclLibrary n{};
  const auto find = [&](const char* name, auto& function) { find_function(library, name, "a newer NCCL 2", function); };
  find("ncclGetErrorString", n.GetErrorString);
  find("ncclGetLastError", n.GetLastError);
  find("ncclGetVersion", n.GetVersion);
  find("ncclGetUniqueId", n.GetUniqueId);
  find("ncclCommInitRank", n.CommInitRank);
  find("ncclCommDestroy", n.CommDestroy);
  find("ncclCommAbort", n.CommAbort);
  find("ncclAllReduce", n.AllReduce);
  find("ncclReduce", n.Reduce);
  find("ncclBroadcast", n.Broadcast);
  find("ncclAllGather", n.AllGather);
  find("ncclReduceScatter", n.ReduceScatter);
  find("ncclSend", n.Send);
  find("ncclRecv", n.Recv);
  find("ncclGroupStart", n.GroupStart);
  find("ncclGroupEnd", n.GroupEnd);
  return n;
}

}  // namespace

const NcclLibrary& nccl() {
  static const NcclLibrary library = load();
  return library;
}

}  // namespace moe::cuda
