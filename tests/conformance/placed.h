#pragma once
/// An operation moved to a device: every view has memory of its own, with guards around it and between its rows.

#include <memory>
#include <string>
#include <vector>

#include "ops/device.h"
#include "ops/fields.h"

namespace moe::conformance {

/// The value outside the elements of every buffer: a NaN in every float type, different from the poison of outputs.
constexpr uint16_t kGuard = 0x7ffd;

enum class Precision {
  as_given,  ///< the views keep their types
  twice,     ///< every float view becomes f64 with the same values
};

/// The host's memory as a device, for the oracle.
std::unique_ptr<Device> make_host_device();

/// The buffers of one operation. Views that are equal on the host share a buffer, so that operations in place stay in
/// place. Outputs that are only written start as poison.
class Buffers {
 public:
  /// `misalign`: the data begins this many elements after an address that is a multiple of 64.
  Buffers(Device& device, Precision precision, int misalign);
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  /// Makes room for `source`, or finds the buffer of an equal view.
  void add(const char* name, const View& source, Role role);
  /// Fills the device's memory; called once, after the last add.
  void upload();
  /// Waits for the device and copies its memory back.
  void download();

  View device_view(const char* name) const;
  /// Host views of the elements as they were uploaded and as they were downloaded.
  View before(const char* name) const;
  View after(const char* name) const;

  /// Damage that no operation may do: the names of inputs that changed, and of buffers whose guards changed.
  std::vector<std::string> damage() const;
  /// All downloaded bytes, to compare the bits of two runs.
  std::vector<uint8_t> image() const;

 private:
  struct Buffer {
    std::string names;
    View source;
    View view;  ///< on the device
    bool written;
    size_t offset;  ///< of the data in the memory
    void* memory;
    std::vector<uint8_t> before, after;
  };
  const Buffer& find(const char* name) const;
  static View on(const Buffer& buffer, const std::vector<uint8_t>& bytes);

  Device& device_;
  Precision precision_;
  int misalign_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::pair<std::string, Buffer*>> by_name_;
};

/// An operation whose views are in Buffers, ready to run.
template <class Op>
class Placed {
 public:
  Placed(const Op& host, Device& device, Precision precision = Precision::as_given, int misalign = 0)
      : buffers_(device, precision, misalign), op_(host) {
    // Views that are read come first, so that an output in the same place is known not to be poison.
    for (const bool poisoned : {false, true}) {
      for_each_view(host, [&](const Field<Op>& field, const View& view) {
        if ((field.role == Role::out) == poisoned) buffers_.add(field.name, view, field.role);
      });
    }
    buffers_.upload();
    for_each_view(host,
                  [&](const Field<Op>& field, const View&) { op_.*field.view = buffers_.device_view(field.name); });
  }

  const Op& op() const { return op_; }
  Buffers& buffers() { return buffers_; }
  const Buffers& buffers() const { return buffers_; }
  /// The operation with host views of the downloaded elements, or of the uploaded ones.
  Op after() const { return with_views(&Buffers::after); }
  Op before() const { return with_views(&Buffers::before); }

 private:
  Op with_views(View (Buffers::*side)(const char*) const) const {
    Op result = op_;
    for_each_view(op_, [&](const Field<Op>& field, const View&) { result.*field.view = (buffers_.*side)(field.name); });
    return result;
  }

  Buffers buffers_;
  Op op_;
};

}  // namespace moe::conformance
