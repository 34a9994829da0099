#pragma once
/// Tables for other programs: rows of named values, as CSV.

#include <string>
#include <vector>

#include "formats/json.h"

namespace moe {

/// Members in the order of the columns.
using Row = nlohmann::ordered_json;

/// The rows as CSV (RFC 4180), with a line of names; null is empty. All rows have the same columns.
std::string rows_as_csv(const std::vector<Row>& rows);

}  // namespace moe
