"""An arm and a mobile base of another package; their files are copies of ours, under other names."""

from shopfloor.envs.robots import AMR, UR5E, ArmModel, BaseModel

ARM = ArmModel.from_urdf(
    "acme_arm",
    UR5E.urdf,
    UR5E.joints,
    UR5E.tool_link,
    UR5E.chain.home,
    reach_m=UR5E.reach_m,
    cells=("PickToTray", "MachineTending"),
)
CART = BaseModel("acme_cart", AMR.urdf, cells=("shopfloor/AisleDelivery-v0", "PickToTray"))
