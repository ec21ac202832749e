//! The shape of a row: which columns an image holds and how their values lie in it.

/// One column of a shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    /// Number in the table that the row was read from; a leaf partition may differ from its root.
    pub attnum: i16,
    /// OID of the type.
    pub type_oid: u32,
    pub typmod: i32,
    /// `pg_type.typlen`: bytes, −1 for a varlena, −2 for a C string.
    pub length: i16,
    pub by_value: bool,
    /// Part of a key that some sync uses; recorded in every image.
    pub key: bool,
}

/// The columns an image holds, with the table they come from. Its id is a hash of its content, so
/// two backends that see the same table agree on the id without asking each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The table that was registered: the root, where the row lies in a partition.
    pub relation: u32,
    /// The table the row lies in.
    pub leaf: u32,
    pub columns: Vec<Column>,
}

impl Shape {
    /// The content's 64-bit hash, never 0.
    pub fn id(&self) -> i64 {
        let bytes = self.to_bytes();
        let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash | 1) as i64
    }

    /// Where a column of today's lies in this older shape: the one of its number, which a column keeps when it is renamed,
    /// or else that of its name, unless what was called so goes by another name now. Without a number, 0, where the
    /// shape is of another table, the name is all there is. `is_here`: has a column of today's this number?
    /// `within`: which of the columns count.
    pub fn place_of(
        &self,
        name: &str,
        attnum: i16,
        is_here: impl Fn(i16) -> bool,
        within: impl Fn(&Column) -> bool,
    ) -> Option<usize> {
        let place = |is: &dyn Fn(&Column) -> bool| {
            self.columns.iter().position(|column| within(column) && is(column))
        };
        if attnum == 0 {
            return place(&|column| column.name == name);
        }
        place(&|column| column.attnum == attnum)
            .or_else(|| place(&|column| column.name == name && !is_here(column.attnum)))
    }

    pub fn lengths(&self) -> Vec<i16> {
        self.columns.iter().map(|c| c.length).collect()
    }

    /// The form in which a shape is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.columns.len() * 32);
        out.extend_from_slice(&self.relation.to_le_bytes());
        out.extend_from_slice(&self.leaf.to_le_bytes());
        out.extend_from_slice(&(self.columns.len() as u16).to_le_bytes());
        for c in &self.columns {
            out.extend_from_slice(&c.attnum.to_le_bytes());
            out.extend_from_slice(&c.type_oid.to_le_bytes());
            out.extend_from_slice(&c.typmod.to_le_bytes());
            out.extend_from_slice(&c.length.to_le_bytes());
            out.push(u8::from(c.by_value) | u8::from(c.key) << 1);
            out.extend_from_slice(&(c.name.len() as u16).to_le_bytes());
            out.extend_from_slice(c.name.as_bytes());
        }
        out
    }

    /// Reads what [`Shape::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let relation = u32::from_le_bytes(take(&mut rest)?);
        let leaf = u32::from_le_bytes(take(&mut rest)?);
        let count = u16::from_le_bytes(take(&mut rest)?);
        let mut columns = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let attnum = i16::from_le_bytes(take(&mut rest)?);
            let type_oid = u32::from_le_bytes(take(&mut rest)?);
            let typmod = i32::from_le_bytes(take(&mut rest)?);
            let length = i16::from_le_bytes(take(&mut rest)?);
            let [flags] = take(&mut rest)?;
            let size = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let (name, tail) = rest.split_at_checked(size)?;
            rest = tail;
            columns.push(Column {
                name: String::from_utf8(name.to_vec()).ok()?,
                attnum,
                type_oid,
                typmod,
                length,
                by_value: flags & 1 != 0,
                key: flags & 2 != 0,
            });
        }
        rest.is_empty().then_some(Self { relation, leaf, columns })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str) -> Shape {
        Shape {
            relation: 16_384,
            leaf: 16_385,
            columns: vec![Column {
                name: name.into(),
                attnum: 3,
                type_oid: 25,
                typmod: -1,
                length: -1,
                by_value: false,
                key: true,
            }],
        }
    }

    #[test]
    fn survives_storage() {
        let shape = shape("Größe \"x\"");
        assert_eq!(Shape::from_bytes(&shape.to_bytes()), Some(shape.clone()));
        for cut in 0..shape.to_bytes().len() {
            assert_eq!(Shape::from_bytes(&shape.to_bytes()[..cut]), None);
        }
    }

    #[test]
    fn another_column_is_another_shape() {
        assert_eq!(shape("a").id(), shape("a").id());
        assert_ne!(shape("a").id(), shape("b").id());
    }
}
