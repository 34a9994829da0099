#pragma once
/// Converts tensors slice by slice, on all threads, for files of any format. Memory does not grow with a tensor.

#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/weight_source.h"

namespace moe {

/// Statistics of the written tensors of one kind and type.
struct WrittenKind {
  ParameterKind kind;
  DType dtype;
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
  double squared_error = 0;   ///< sum over elements of (written - read)^2
  double squared_values = 0;  ///< sum of read^2

  /// sqrt(squared_error / squared_values); 0 if both are 0.
  double relative_error() const;
};

/// A tensor to write. Of blocks, rows are whole blocks.
struct SliceTensor {
  ParameterKind kind;
  DType dtype;
  int64_t elements;
  std::function<StoredElement(int64_t element)> source;  ///< where an element comes from, for errors
};

class SliceWriter {
 public:
  using Append = std::function<void(const char* data, size_t bytes)>;
  using Progress = std::function<void(int64_t done, int64_t all)>;  ///< bytes written

  /// `all`: the bytes of everything that will be written.
  SliceWriter(ThreadPool& pool, int64_t all, Progress progress);

  /// `read` gets elements [begin, begin + count) from several threads at once. `append` gets the tensor's bytes in
  /// order, on the calling thread. Elements that are not finite, or that the type cannot hold, are an error that
  /// names the file they come from.
  void write(const SliceTensor& tensor, const Append& append,
             const std::function<void(int64_t begin, int64_t count, float* values)>& read);
  void write_integers(const SliceTensor& tensor, const Append& append,
                      const std::function<void(int64_t begin, int64_t count, int32_t* values)>& read);

  /// In the order of ParameterKind, then of DType.
  std::vector<WrittenKind> kinds() const;

 private:
  /// One slice on its way: read, converted, and compared with what was read.
  struct Slice {
    std::vector<float> values, again;
    std::vector<char> bytes;
    double squared_error = 0, squared_values = 0;
  };
  void write_slices(const SliceTensor& tensor, const Append& append,
                    const std::function<void(int64_t begin, int64_t count, Slice& slice)>& convert);
  WrittenKind& of_kind(const SliceTensor& tensor);

  ThreadPool& pool_;
  int64_t done_ = 0, all_;
  Progress progress_;
  std::vector<Slice> slices_;  ///< one for each thread
  std::vector<WrittenKind> kinds_;
};

}  // namespace moe
