#pragma once
/// The inputs on which every backend is compared with the oracle.

#include <deque>
#include <string>
#include <vector>

#include "ops/backend.h"
#include "tests/oracle/store.h"

namespace moe::conformance {

using oracle::Store;

constexpr DType f32 = DType::f32, bf16_type = DType::bf16, f64 = DType::f64, i32 = DType::i32;

/// What weights may be stored as beside f32 and bf16: every such type of the table.
std::vector<DType> other_weight_types();

/// The least multiple of a type's block that is at least `size`.
constexpr int64_t in_blocks(DType type, int64_t size) {
  const int64_t block = storage(type).block;
  return (size + block - 1) / block * block;
}

/// Makes what lies in rows [first, end) of a float matrix no number: nobody may read it.
void poison_rows(const View& view, int64_t first);

template <class Op>
struct Case {
  std::string name;
  Op op;
  int misalign;  ///< the data begins this many elements after an aligned address
};

/// The cases of one operation, and their memory. Outputs that are only written need no values. Other elements that an
/// operation must not change should keep Store::poison.
template <class Op>
class Cases {
 public:
  /// Memory for the next case; about half of the cases get gaps between the rows of their matrices.
  Store& strided() {
    Store& store = contiguous();
    constexpr int64_t gaps[] = {0, 3, 0, 16};
    store.set_row_gap(gaps[store.draw() % 4]);
    return store;
  }
  Store& contiguous() {
    stores_.emplace_back(hash_name(Op::name) + stores_.size());
    return stores_.back();
  }
  /// `note` adds what the operation's own description does not say.
  void add(const Op& op, const std::string& note = "") {
    all_.push_back({describe(op) + (note.empty() ? "" : " " + note), op, static_cast<int>(all_.size() % 3)});
  }
  const std::vector<Case<Op>>& all() const { return all_; }

 private:
  std::deque<Store> stores_;
  std::vector<Case<Op>> all_;
};

/// Specialised for every operation of OpList. An operation without cases does not link.
template <class Op>
Cases<Op> make_cases();

/// Made once.
template <class Op>
const std::vector<Case<Op>>& cases() {
  static const Cases<Op> list = make_cases<Op>();
  return list.all();
}

}  // namespace moe::conformance
