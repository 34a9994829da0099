#pragma once
/// The memory of a device where a backend computes.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace moe {

struct DeviceInfo {
  std::string name = {};     ///< for people: processor or GPU
  int64_t memory_bytes = 0;  ///< what the device has in all
  /// What this process can use of it, less a small reserve: what it holds already (the backend's scratch_bytes too) and
  /// what is still free, of its control groups' limits too. 0: not known.
  int64_t available_bytes = 0;
  int64_t scratch_bytes = 0;  ///< memory that the backend itself holds (packing buffers, library workspaces)
  bool is_host = false;       ///< true if its memory is the program's own memory
  int64_t most_slots = 0;     ///< the most choice slots (T times S) that a RoutePlan may have; 0: no limit
};

/// Operations that are queued together, again and again, with the same views and scalars. For one thread at a time.
class Recording {
 public:
  virtual ~Recording() = default;
  /// Queues them. What they read may have changed since the last time.
  virtual void replay() = 0;
  /// How many pieces of work a replay gives the device; 0: not known.
  virtual int64_t kernels() const { return 0; }
};

/// A copy to the host that is queued now and read later, so that the host need not wait for work that is queued behind
/// it. For one thread at a time.
class LateCopy {
 public:
  virtual ~LateCopy() = default;
  /// Queues the copy of what the work before it leaves at `device`.
  virtual void start(const void* device) = 0;
  /// Waits for the copy that was started last, and for nothing behind it. The bytes are valid until the next start.
  virtual const void* wait() = 0;
};

/// All addresses in views that a backend receives come from its Device (on the CPU, any host address is allowed). Use a
/// device on one thread at a time.
class Device {
 public:
  virtual ~Device() = default;

  /// Uninitialised memory, aligned to 64 bytes. If there is none, throws an Error that names `purpose` and the size.
  virtual void* allocate(size_t bytes, const std::string& purpose) = 0;
  virtual void release(void* data) = 0;
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  /// Waits for all queued work, then copies.
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  virtual void synchronize() = 0;
  virtual DeviceInfo info() const = 0;
  /// Records what `work` queues. It may be called now, at every replay or both; it runs the same operations each time,
  /// and neither copies to or from the host, waits nor allocates. Its views must outlive the recording. Run the
  /// operations once before, so that nothing is loaded during the recording.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& work);
  /// True if a replay costs the host less than to queue the operations.
  virtual bool records() const { return false; }
  /// True if the kernels read rearranged blocks (is_rearranged()) faster than the files' own.
  virtual bool rearranges_blocks() const { return false; }
  /// For copies of so many bytes. It must not outlive the device. By default each copy is a download at its start.
  virtual std::unique_ptr<LateCopy> late_copy(size_t bytes);

  /// The bytes allocated now, the largest number at any time, and the number of allocations so far.
  int64_t allocated_bytes() const { return allocated_bytes_; }
  int64_t peak_allocated_bytes() const { return peak_allocated_bytes_; }
  int64_t allocations() const { return allocations_; }

 protected:
  void count_allocation(size_t bytes) {
    allocated_bytes_ += static_cast<int64_t>(bytes);
    peak_allocated_bytes_ = std::max(peak_allocated_bytes_, allocated_bytes_);
    ++allocations_;
  }
  void count_release(size_t bytes) { allocated_bytes_ -= static_cast<int64_t>(bytes); }

 private:
  int64_t allocated_bytes_ = 0;
  int64_t peak_allocated_bytes_ = 0;
  int64_t allocations_ = 0;
};

/// A device that gives distinct addresses but no memory. Use it to count what a step of any size would do.
std::unique_ptr<Device> make_null_device();

}  // namespace moe
