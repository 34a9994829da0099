#include "train/patient_log.h"

#include "base/error.h"
#include "base/log.h"

namespace moe {

void PatientLog::write(std::string_view line) {
  const bool waited = !waiting_.empty();
  waiting_ += line;
  try {
    file_.write(waiting_);
    waiting_.clear();
  } catch (const Error& error) {
    if (!waited) log_warning("{}; the run continues, and tries again with its next line", error.what());
  }
}

int64_t PatientLog::sync() {
  if (!waiting_.empty()) file_.write(waiting_);
  waiting_.clear();
  return file_.sync();
}

}  // namespace moe
