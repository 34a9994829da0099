#pragma once
/// A study's results for other programs: one row for each system, seed and domain.

#include <nlohmann/json.hpp>

#include "study/table.h"

namespace moe {

/// Members in the order of the columns.
using Row = nlohmann::ordered_json;

/// Of every result and each of its domains, and one with the domain "all". All rows have the same columns; what a
/// result does not have is null. A diverged result has one row, without losses. Of the keys of the run file, those are
/// columns whose values differ among the results.
std::vector<Row> study_rows(const Study& study, const std::vector<JobResult>& results);

/// The rows as CSV (RFC 4180), with a line of names; null is empty.
std::string rows_as_csv(const std::vector<Row>& rows);

/// The rows as a JSON array.
std::string rows_as_json(const std::vector<Row>& rows);

}  // namespace moe
