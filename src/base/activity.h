#pragma once
/// What the program is doing, for errors that cannot say it themselves. The system may refuse memory anywhere; the
/// error then names the innermost activity that it ended.

#include <exception>
#include <string>
#include <utility>

namespace moe {

/// Names an activity while the object exists: "reading a.txt". Use it on the main thread only.
class Activity {
 public:
  explicit Activity(std::string what) : what_(std::move(what)), exceptions_(std::uncaught_exceptions()) {}
  ~Activity();
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  /// The innermost activity that an exception has ended since the program began; "" if there is none.
  static const std::string& ended_by_exception();

 private:
  std::string what_;
  int exceptions_;
};

/// One sentence for any exception: the text of an Error, or a description of what the language or a library threw.
std::string sentence_of(const std::exception& error);

}  // namespace moe
