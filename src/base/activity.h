#pragma once
/// What the program is at, for an error that cannot say it itself: memory that the system refuses is reported from
/// anywhere, by the name of the innermost activity that it ended.

#include <exception>
#include <string>
#include <utility>

namespace moe {

/// Says what is done while it exists: "reading a.txt". The main thread's alone.
class Activity {
 public:
  explicit Activity(std::string what) : what_(std::move(what)), exceptions_(std::uncaught_exceptions()) {}
  ~Activity();
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  /// The innermost activity that an exception ended since the program began; "" where there is none.
  static const std::string& ended_by_exception();

 private:
  std::string what_;
  int exceptions_;
};

/// One sentence for any exception: an Error's own, or what can be said of one that the language or a library threw.
std::string sentence_of(const std::exception& error);

}  // namespace moe
