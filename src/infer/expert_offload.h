#pragma once
/// A model larger than a device: the routed experts of some layers are in the host's memory, and the host's backend
/// computes them. What a layer gives its experts is copied to the host, and their results are copied back.

#include <memory>

#include "ops/backend.h"
#include "ops/device.h"

namespace moe {

/// Use it on one thread at a time. All arguments must outlive it, and it must outlive what uses its members.
class ExpertOffload {
 public:
  ExpertOffload(Device& device, Backend& backend, Device& host_device, Backend& host_backend);
  ~ExpertOffload();

  /// The device, which also copies to and from memory of host(). While there is such memory it does not record steps:
  /// Device::record runs the operations again.
  Device& device() const;
  /// The host's memory, for weights of routed experts (HostExperts).
  Device& host() const;
  /// For forward passes. Routed experts whose weights are in the host's memory run there. They give the device their
  /// last result alone: gate_up and the activation stay as they were.
  Backend& backend() const;

 private:
  class HostMemory;
  class Both;
  class Computing;
  std::unique_ptr<HostMemory> host_;
  std::unique_ptr<Both> device_;
  std::unique_ptr<Computing> backend_;
};

}  // namespace moe
