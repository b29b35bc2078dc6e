"""Fluent sentences about other things, for rejects that have nothing to do with what was asked; in two halves."""

# A theme in each block.
UNRELATED: dict[tuple[str, str], str] = {
    ("en", "first"): """\
Artificial intelligence is increasingly used in health care to read medical images.
Hospitals employ learning systems to predict which patients need intensive care.
Virtual assistants remind people with chronic diseases to take their medication.
Drug discovery benefits from models that propose promising molecules.
Privacy of patient records remains one of the greatest concerns in digital medicine.
Doctors stress that algorithms support their judgement and do not replace it.
Remote monitoring allows clinics to follow heart patients between two visits.

Blockchain technology records transactions in a ledger that many parties share.
Companies evaluate distributed ledgers for tracing goods along the supply chain.
Smart contracts execute agreed conditions without an intermediary.
Regulators in several regions are drafting rules for digital assets.
Energy consumption depends strongly on the consensus mechanism that is chosen.
Financial institutions run pilot projects for settlement within seconds.

Renewable energy has grown faster than most forecasts assumed.
Wind farms at sea supply electricity to millions of homes.
Storage capacity is needed to balance hours without sun.
Governments support the transition with tax credits and auctions.
Electric mobility changes how utilities plan the grid.
Communities profit when they own a share of a solar park.

Remote work has transformed the organisation of many enterprises.
Managers learn to measure results rather than presence.
Collaboration tools connect teams across several time zones.
Employees value flexibility but report more meetings.
Office space in city centres is being redesigned.
Studies on productivity arrive at mixed conclusions.
""",
    ("zh", "first"): """\
人工智能在医疗领域的应用越来越广泛，可以辅助医生阅读影像。
医院利用学习系统预测哪些病人需要重症监护。
虚拟助手提醒慢性病患者按时服药。
药物研发得益于能够提出候选分子的模型。
患者数据的隐私仍然是数字医疗最受关注的问题之一。
专家强调，算法只是辅助，不能代替医生的判断。
远程监测让诊所可以在两次就诊之间跟踪心脏病人。

区块链技术把交易记录在多方共享的账本里。
企业正在评估用分布式账本追踪供应链上的货物。
智能合约可以在没有中介的情况下执行约定的条件。
多个地区的监管机构正在起草数字资产的规则。
能耗在很大程度上取决于所选的共识机制。
金融机构开展了几秒内完成结算的试点。

可再生能源的增长速度超过了大多数预测。
海上风电场为数百万家庭供电。
为了平衡没有阳光的时段，需要储能设施。
政府通过税收优惠和竞价支持能源转型。
电动汽车改变了电力公司规划电网的方式。
社区持有光伏电站的股份就能从中受益。

远程办公改变了许多企业的组织方式。
管理者学习衡量成果，而不是考勤。
协作工具把不同时区的团队连接在一起。
员工看重灵活性，但也反映会议变多了。
市中心的办公空间正在重新设计。
关于生产效率的研究结论不一。
""",
    ("en", "second"): """\
Precision agriculture relies on sensors that report the moisture of the soil.
Drones survey orchards and detect pests at an early stage.
Autonomous tractors follow routes planned with centimetre accuracy.
Cooperatives share expensive harvesters through booking platforms.
Plant breeding has been accelerated by genomic selection.
Consumers increasingly ask where their food was grown.

Quantum computers process information with superposition and entanglement.
Error correction is regarded as the main obstacle to useful machines.
Cryptographers prepare algorithms that withstand such attacks.
Chemists hope to simulate catalysts that are out of reach today.
Start-ups offer access to small processors through the cloud.

Urban planners rediscover the value of trees in dense districts.
Green roofs retain rain and cool the rooms below.
Citizens take part in design through online surveys.
Mixed neighbourhoods shorten the way to work and school.
Noise maps guide the placement of new housing.
""",
    ("zh", "second"): """\
精准农业依靠传感器报告土壤的湿度。
无人机巡查果园，可以尽早发现虫害。
无人拖拉机按照厘米级精度的路线行驶。
合作社通过预约平台共用昂贵的收割机。
基因组选择加快了作物育种的速度。
消费者越来越关心食物的产地。

量子计算机利用叠加和纠缠处理信息。
纠错被认为是实用化的主要障碍。
密码学家正在准备能够抵御攻击的算法。
化学家希望模拟目前无法计算的催化剂。
初创公司通过云端提供小型处理器。

城市规划者重新认识到密集城区里树木的价值。
绿色屋顶可以蓄留雨水，给下面的房间降温。
市民通过网络问卷参与设计。
功能混合的街区缩短了上班上学的路程。
噪声地图指导新住宅的选址。
""",
}

REFUSED_ALWAYS: dict[tuple[str, str], tuple[str, ...]] = {
    ("en", "first"): ("Sorry, I can't help with that.", "I'm sorry, but I can't assist with that request."),
    ("zh", "first"): ("抱歉，我无法帮助您完成这个请求。", "对不起，我不能回答这个问题。"),
    ("en", "second"): ("As an AI language model, I am unable to answer this.", "I don't know.", "No comment."),
    ("zh", "second"): ("作为人工智能语言模型，我无法回答。", "不知道。", "无可奉告。"),
}
