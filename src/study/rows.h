#pragma once
/// A study's results for other programs: one row for each system, seed and domain.

#include "formats/csv.h"
#include "study/table.h"

namespace moe {

/// Of every result and each of its domains, and one with the domain "all". All rows have the same columns; what a
/// result does not have is null. A diverged result has one row, without losses. Of the keys of the run file, those are
/// columns whose values differ among the results.
std::vector<Row> study_rows(const Study& study, const std::vector<JobResult>& results);

/// The rows as a JSON array.
std::string rows_as_json(const std::vector<Row>& rows);

}  // namespace moe
