//! Rows of a matrix in groups of one size, each of rows that point the same way.

use rayon::prelude::*;

/// Rounds of which the last one changes nothing, or that are enough.
const MOST_ROUNDS: usize = 40;

/// The group of each row, by balanced k-means over the rows' directions: groups are filled with the nearest rows first,
/// and a row whose group is full goes to the next nearest. Rows at even distances are the first centres, so that every
/// run finds the same groups. `groups` divides the number of rows.
pub(super) fn balanced_groups(rows: &[Vec<f64>], groups: usize) -> Vec<usize> {
    let rows: Vec<Vec<f64>> = rows.iter().map(|row| unit(row)).collect();
    let room = rows.len() / groups;
    let mut centres: Vec<Vec<f64>> = rows.iter().step_by(room).take(groups).cloned().collect();
    let mut of_row = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let next = fill(&rows, &centres, room);
        if next == of_row {
            break;
        }
        of_row = next;
        centres = means(&rows, &of_row, groups);
    }
    of_row
}

fn unit(row: &[f64]) -> Vec<f64> {
    let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
    row.iter().map(|value| value / length.max(f64::MIN_POSITIVE)).collect()
}

fn fill(rows: &[Vec<f64>], centres: &[Vec<f64>], room: usize) -> Vec<usize> {
    let distance = |[row, group]: [usize; 2]| {
        let pairs = rows[row].iter().zip(&centres[group]);
        (pairs.map(|(a, b)| (a - b) * (a - b)).sum(), row, group)
    };
    let all = (0..rows.len() * centres.len()).into_par_iter();
    let mut pairs: Vec<(f64, usize, usize)> =
        all.map(|pair| distance([pair / centres.len(), pair % centres.len()])).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut of_row = vec![None; rows.len()];
    let mut left = vec![room; centres.len()];
    for (_, row, group) in pairs {
        if of_row[row].is_none() && left[group] > 0 {
            of_row[row] = Some(group);
            left[group] -= 1;
        }
    }
    of_row.into_iter().flatten().collect()
}

fn means(rows: &[Vec<f64>], of_row: &[usize], groups: usize) -> Vec<Vec<f64>> {
    let mut sums = vec![vec![0.0; rows.first().map_or(0, Vec::len)]; groups];
    for (row, &group) in rows.iter().zip(of_row) {
        sums[group].iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let share = groups as f64 / rows.len() as f64;
    sums.iter_mut().flatten().for_each(|sum| *sum *= share);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_one_size_and_of_one_direction() {
        // Eight rows along each of three axes, of all lengths.
        let row = |index: usize| {
            let mut row = vec![0.01 * index as f64; 3];
            row[index % 3] = 1.0 + index as f64;
            row
        };
        let rows: Vec<Vec<f64>> = (0..24).map(row).collect();
        let groups = balanced_groups(&rows, 3);
        for index in 0..24 {
            assert_eq!(groups[index] == groups[0], index % 3 == 0, "{index}: {groups:?}");
        }
        for count in [1, 2, 4, 24] {
            let groups = balanced_groups(&rows, count);
            let of = |group| groups.iter().filter(|it| **it == group).count();
            assert!((0..count).all(|group| of(group) == 24 / count), "{groups:?}");
        }
    }
}
