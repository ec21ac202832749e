/// Whose turn it is where not all can call: after whoever called last, in the order in which they stand. Where nobody
/// had to wait, the order is as it is.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    last: Option<i32>,
    /// Somebody had to wait since this round began, or in the one before it.
    waited: bool,
}

impl Turns {
    /// Begins a round: in which order they are to be asked.
    pub fn begin(&mut self, order: &[i32]) -> Vec<i32> {
        let mut order = order.to_vec();
        if std::mem::take(&mut self.waited)
            && let Some(place) = order.iter().position(|id| Some(*id) == self.last)
        {
            order.rotate_left(place + 1);
        }
        order
    }

    /// One had to wait.
    pub fn waits(&mut self) {
        self.waited = true;
    }

    /// One called.
    pub fn called(&mut self, id: i32) {
        self.last = Some(id);
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn who_waits_comes_before_who_called() {
        let mut turns = Turns::default();
        let mut called = Vec::new();
        for _ in 0..7 {
            // One call a round.
            for (n, id) in turns.begin(&[1, 2, 3]).into_iter().enumerate() {
                if n == 0 {
                    turns.called(id);
                    called.push(id);
                } else {
                    turns.waits();
                }
            }
        }
        assert_eq!(called, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn where_nobody_waits_the_order_stays() {
        let mut turns = Turns::default();
        assert_eq!(turns.begin(&[1, 2, 3]), [1, 2, 3]);
        turns.called(1);
        turns.called(2);
        assert_eq!(turns.begin(&[1, 2, 3]), [1, 2, 3]);
        // The one that called last is gone.
        turns.called(2);
        turns.waits();
        assert_eq!(turns.begin(&[1, 3]), [1, 3]);
    }
}
