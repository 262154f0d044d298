"""The tree as tenants and sessions come and go, and where they stand among their siblings."""

from collections.abc import Iterable

from flame.model.ids import DEFAULT_TENANT, SessionNumber, Tenant
from flame.model.resources import Resources
from flame.model.tenants import DEFAULT_SPEC, TenantSpec
from flame.scheduling.counts import ROOT
from flame.scheduling.facts import Wish
from flame.scheduling.promises import Promises
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Branch, Leaf, Shape, Standing


class Planted(Promises):
    """Counts in a tree that changes."""

    def put_tenants(self, specs: Iterable[TenantSpec]) -> None:
        """Replace the tree. ``specs`` were checked: parents come first."""
        self.circumstances += 1
        wishes = [leaf.wish for leaf in self.leaves.values()]
        balances = {name: branch.balance for name, branch in self.branches.items()}
        self.root = Branch(ROOT, -1, None)
        self.branches, self.tiers = {}, {}
        self.tree.clear()
        for spec in specs:
            self._add_branch(spec)
        if DEFAULT_TENANT not in self.branches:
            self._add_branch(DEFAULT_SPEC)
        for branch in reversed(list(self.branches.values())):
            _settle_guarantee(branch)
        self.any_guarantee = any(b.guaranteed is not None for b in self.branches.values())
        self.any_withheld = any(not b.spec.lends for b in self.branches.values())
        for name, balance in balances.items():
            if name in self.branches:
                self.put_balance(name, balance / WHOLE)
        for wish in wishes:
            self._replant(self.leaves[wish.session])

    def _add_branch(self, spec: TenantSpec) -> Branch:
        parent = self.branches.get(spec.parent) if spec.parent is not None else self.root
        # Whatever the order of reports, the same name has the same order.
        order = -1 - int.from_bytes(spec.name.encode(), "big")
        branch = Branch(spec, order, parent or self.root)
        (parent or self.root).children.append(branch)
        self.branches[spec.name] = branch
        if spec.quota is not None or spec.ceiling is not None:
            branch.amount = Resources()
        return branch

    def put_balance(self, of: Tenant | SessionNumber, share: float) -> None:
        """Note how much more (or less, below zero) somebody had than it deserved, decayed.

        ``share`` is a part of the cluster; :mod:`flame.scheduling.usage` keeps it. A tenant's that is
        less than half an executor is left to its turns: it would tip the scales at every look.
        """
        if isinstance(of, str):
            branch = self.branches.get(of)
            if branch is not None and branch.balance != share * WHOLE:
                branch.balance = share * WHOLE
                branch.tips = branch.balance if abs(branch.balance) >= self.tree.unit / 2 else 0.0
                if abs(branch.tips - branch.tipped) >= self.tree.unit / 2:
                    branch.tipped = branch.tips
                    self.circumstances += 1
                self.tree.recount(branch, 0)
            return
        leaf = self.leaves.get(of)
        if leaf is not None:
            leaf.tips = share * WHOLE
            self._touch(leaf.parent)
            self.tree.place(leaf)

    def put_standing(self, of: Tenant | SessionNumber, standing: Standing) -> None:
        """Note where a tenant stands among its siblings, or a session in its tenant."""
        child = self.branches.get(of) if isinstance(of, str) else self.leaves.get(of)
        if child is None or child.standing == standing:
            return
        if child.standing.turn is not standing.turn:
            self.circumstances += 1
        child.standing = standing
        if isinstance(child, Leaf):
            self._touch(child.parent)
            self.tree.place(child)
        else:
            self.tree.recount(child, 0)

    def _forget_turns(self) -> None:
        """Others share than before, so that what was deserved means nothing any more."""
        self.others_share = True
        for branch in self.branches.values():
            if branch.standing.owed is not None:
                branch.standing = Standing()
                self.tree.recount(branch, 0)

    def _plant(self, wish: Wish) -> Leaf:
        tier = self.policies.tier(wish)
        leaf = Leaf(wish, tier, self._branch_of(wish), self._shape(wish), 1)
        self.leaves[wish.session] = leaf
        self._replant(leaf)
        return leaf

    def _replant(self, leaf: Leaf) -> None:
        wish = leaf.wish
        leaf.parent, leaf.shape = self._branch_of(wish), self._shape(wish)
        leaf.tier = self.policies.tier(wish)
        leaf.price = self.policies.sharing.price(wish.request, self.total)
        leaf.entry = None
        if not leaf.parent.leaves:
            self._forget_turns()
        leaf.parent.leaves[wish.order] = leaf
        self.tiers[leaf.tier] = self.tiers.get(leaf.tier, 0) + 1
        self.tree.charge(leaf, leaf.taken)

    def _uproot(self, leaf: Leaf) -> None:
        self.tree.remove(leaf)
        self.tree.charge(leaf, -leaf.taken)
        self.tree.remove(leaf)
        leaf.parent.keeping.pop(leaf.wish.order, None)
        del leaf.parent.leaves[leaf.wish.order]
        if not leaf.parent.leaves:
            self._forget_turns()
        self.tiers[leaf.tier] -= 1
        if not self.tiers[leaf.tier]:
            del self.tiers[leaf.tier]

    def _branch_of(self, wish: Wish) -> Branch:
        if not self.policies.sharing.by_tenant:
            return self.root
        return self._branch_named(wish.tenant)

    def _branch_named(self, name: Tenant) -> Branch:
        """Return the tenant's branch; one that nobody defined has weight 1, as those above it."""
        branch = self.branches.get(name)
        if branch is None:
            spec = TenantSpec(name)
            if spec.parent is not None:
                self._branch_named(spec.parent)
            branch = self._add_branch(spec)
        return branch

    def _shape(self, wish: Wish) -> Shape:
        key = (wish.request, wish.batch_size, wish.requires)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(wish.request, wish.batch_size, wish.requires)
        return shape

    def _touch(self, branch: Branch | None) -> None:
        while branch is not None:
            self.tree.touched[branch.order] = branch
            branch = branch.parent


def _settle_guarantee(branch: Branch) -> None:
    """A tenant is guaranteed its quota, or what its children are."""
    needed = Resources()
    for child in branch.children:
        if child.guaranteed is not None:
            needed = needed + child.guaranteed
    branch.guaranteed = branch.spec.quota or (needed if needed != Resources() else None)
    if branch.guaranteed is not None and branch.amount is None:
        branch.amount = Resources()
