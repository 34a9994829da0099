// Writes when each kernel of a program began and ended: a library that CUDA loads into the program (CUPTI's activity
// records, which do not make kernels wait for each other). bench/kernel_times.py prints the last replay of a recording.
//
//     CUDA_INJECTION64_PATH=build/bench/libkernel_times.so KERNEL_TIMES=times.csv moe bench generate ...

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <cupti.h>

namespace {

struct Kernel {
  uint64_t start, end, node;  // node: of a recorded graph, or 0
  const std::string* name;
  int blocks_x, blocks_y, threads, registers, shared;
};

constexpr size_t kMost = 1 << 20;  // kernels that are kept; later ones replace the oldest
constexpr size_t kBufferBytes = size_t{8} << 20;

std::mutex mutex;
std::vector<Kernel> kernels;
size_t count = 0;
std::map<std::string, int> names;  // an address in it stays

void CUPTIAPI ask_buffer(uint8_t** buffer, size_t* bytes, size_t* most_records) {
  *bytes = kBufferBytes, *most_records = 0;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(64, kBufferBytes));
}

void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, bytes, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto& k = *reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    const std::string& name = names.emplace(k.name != nullptr ? k.name : "?", 0).first->first;
    const Kernel kernel{k.start,
                        k.end,
                        k.graphNodeId,
                        &name,
                        k.gridX,
                        k.gridY,
                        k.blockX,
                        static_cast<int>(k.registersPerThread),
                        k.dynamicSharedMemory + k.staticSharedMemory};
    if (kernels.size() < kMost) {
      kernels.push_back(kernel);
    } else {
      kernels[count % kMost] = kernel;
    }
    ++count;
  }
  std::free(buffer);
}

void write() {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const char* const path = std::getenv("KERNEL_TIMES");
  std::FILE* const file = std::fopen(path != nullptr ? path : "kernel_times.csv", "w");
  if (file == nullptr) {
    std::perror("kernel_times: the file of KERNEL_TIMES cannot be written");
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex);
  std::fputs("start_ns,end_ns,node,blocks_x,blocks_y,threads,registers,shared_bytes,name\n", file);
  for (const Kernel& k : kernels) {
    std::fprintf(file, "%llu,%llu,%llu,%d,%d,%d,%d,%d,%s\n", static_cast<unsigned long long>(k.start),
                 static_cast<unsigned long long>(k.end), static_cast<unsigned long long>(k.node), k.blocks_x,
                 k.blocks_y, k.threads, k.registers, k.shared, k.name->c_str());
  }
  std::fclose(file);
}

}  // namespace

extern "C" int InitializeInjection() {
  if (cuptiActivityRegisterCallbacks(ask_buffer, take_buffer) != CUPTI_SUCCESS ||
      cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) != CUPTI_SUCCESS) {
    std::fputs("kernel_times: CUPTI does not give the times of kernels here\n", stderr);
    return 0;
  }
  std::atexit(write);
  return 1;
}
