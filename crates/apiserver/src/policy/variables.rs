//! What expressions of a policy see; its own variables are evaluated when one is asked for, once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use stead_cel::{Asked, CALL_COST_MAX, Error, Program, Result, Value};

pub(crate) struct Vars<'a> {
    known: Vec<(&'a str, Value<'a>)>,
    lazy: Rc<Lazy<'a>>,
}

struct Lazy<'a> {
    own: Weak<Lazy<'a>>,
    known: Vec<(&'a str, Value<'a>)>,
    programs: &'a [(String, Program)],
    done: RefCell<BTreeMap<String, Result<Value<'a>>>>,
    /// What may still be spent.
    left: Cell<u64>,
}

impl<'a> Vars<'a> {
    pub(crate) fn of(mut known: Vec<(&'a str, Value<'a>)>, programs: &'a [(String, Program)], budget: u64) -> Vars<'a> {
        let lazy = Rc::new_cyclic(|own| Lazy {
            own: Weak::clone(own),
            known: known.clone(),
            programs,
            done: RefCell::default(),
            left: Cell::new(budget),
        });
        known.push(("variables", Value::Asked(Rc::clone(&lazy) as Rc<dyn Asked<'a>>)));
        Vars { known, lazy }
    }

    pub(crate) fn evaluate<'v>(&'v self, program: &'a Program) -> Result<Value<'a>> {
        self.lazy.evaluate(program, &self.known)
    }
}

impl<'a> Lazy<'a> {
    fn evaluate(&self, program: &'a Program, known: &[(&'a str, Value<'a>)]) -> Result<Value<'a>> {
        let (result, cost) = program.evaluate(known, self.left.get().min(CALL_COST_MAX));
        self.left.set(self.left.get().saturating_sub(cost));
        result
    }
}

impl<'a> Asked<'a> for Lazy<'a> {
    fn field(&self, name: &str) -> Option<Result<Value<'a>>> {
        if let Some(done) = self.done.borrow().get(name) {
            return Some(done.clone());
        }
        let index = self.programs.iter().position(|(known, _)| known == name)?;
        // Until it is known, a variable that asks for itself gets this.
        let unknown = Err(Error::failed(format!("no such key: {name}")));
        self.done.borrow_mut().insert(name.to_owned(), unknown);
        let mut known = self.known.clone();
        known.push(("variables", Value::Asked(self.own.upgrade()? as Rc<dyn Asked<'a>>)));
        let result = self.evaluate(&self.programs[index].1, &known).map_err(|error| match error {
            Error::Failed(why) => Error::failed(format!("composited variable \"{name}\" fails to evaluate: {why}")),
            Error::Limit => Error::Limit,
        });
        self.done.borrow_mut().insert(name.to_owned(), result.clone());
        Some(result)
    }
}
